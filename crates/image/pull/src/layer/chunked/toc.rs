//! The table of contents of a zstd:chunked blob.

use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

use crioxide_names::Digest;
use serde::Deserialize;

use super::has_digest;
use crate::manifest::Descriptor;

/// How the annotations of such blobs begin.
const PREFIX: &str = "io.github.containers.zstd-chunked.";
/// The one kind of table that there is.
const KIND: u64 = 1;
/// A larger table or tar-split is not looked at (bytes): both are held in memory.
const MAX_SIZE: u64 = 64 << 20;

/// Where in its blob the table and the tar-split are, both compressed.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) toc: Range<u64>,
    toc_size: u64,
    toc_digest: String,
    pub(super) tar_split: Range<u64>,
}

/// Which parts of the blob files are in, by the names in the tar.
#[derive(Debug, Default)]
pub(super) struct Toc(pub(super) HashMap<String, Vec<Chunk>>);

/// A part of a file.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    /// Where it is in the blob, compressed on its own.
    pub(super) place: Range<u64>,
    /// Bytes.
    pub(super) size: u64,
    pub(super) digest: Digest,
    /// Whether it is nothing but zeros.
    pub(super) zeros: bool,
}

/// A table that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TocError {
    #[error("annotation `{0}`: not what it should be")]
    Annotation(&'static str),
    #[error("no tar-split, by which the tar could be made again")]
    NoTarSplit,
    #[error("its {0} has another digest than it should have")]
    Digest(&'static str),
    #[error("decompress its table")]
    Decompress(#[source] std::io::Error),
    #[error("parse its table")]
    Parse(#[from] serde_json::Error),
    #[error("its table is of version {0}")]
    Version(u32),
    #[error("its table does not have `{0}` as the tar has it")]
    File(String),
    #[error(transparent)]
    TarSplit(#[from] crioxide_store::TarSplitError),
    #[error("look for files that are there")]
    Store(#[from] crioxide_store::LayerError),
}

impl Places {
    /// As the annotations of the blob say; `None` if it is no such blob.
    pub(super) fn of(blob: &Descriptor) -> Option<Result<Self, TocError>> {
        let annotation = |name: &str| blob.annotations.get(&format!("{PREFIX}{name}"));
        let toc_digest = annotation("manifest-checksum")?;
        let position = annotation("manifest-position")?;
        let parse = || {
            let flawed = || TocError::Annotation("manifest-position");
            let [offset, length, toc_size, KIND] = numbers(position).ok_or_else(flawed)? else {
                return Err(flawed());
            };
            let toc = place(offset, length, blob.size).ok_or_else(flawed)?;
            let flawed = || TocError::Annotation("tarsplit-position");
            let position = annotation("tarsplit-position").ok_or(TocError::NoTarSplit)?;
            let [offset, length, tar_split_size] = numbers(position).ok_or_else(flawed)?;
            let tar_split = place(offset, length, blob.size).ok_or_else(flawed)?;
            if toc_size > MAX_SIZE || tar_split_size > MAX_SIZE {
                return Err(TocError::Annotation("manifest-position"));
            }
            Ok(Self {
                toc,
                toc_size,
                toc_digest: toc_digest.clone(),
                tar_split,
            })
        };
        Some(parse())
    }
}

/// Numbers with colons between them.
fn numbers<const COUNT: usize>(text: &str) -> Option<[u64; COUNT]> {
    let numbers: Vec<u64> = text
        .split(':')
        .map(|number| number.parse().ok())
        .collect::<Option<_>>()?;
    numbers.try_into().ok()
}

fn place(offset: u64, length: u64, size: u64) -> Option<Range<u64>> {
    let end = offset.checked_add(length)?;
    (0 < length && length <= MAX_SIZE && end <= size).then_some(offset..end)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawToc {
    version: u32,
    entries: Vec<Entry>,
    #[serde(default)]
    tar_split_digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Entry {
    r#type: String,
    name: String,
    size: u64,
    offset: u64,
    end_offset: u64,
    digest: String,
    chunk_size: u64,
    chunk_digest: String,
    chunk_type: String,
}

impl Toc {
    pub(super) fn parse(
        compressed: &[u8],
        tar_split: &[u8],
        places: &Places,
    ) -> Result<Self, TocError> {
        if !has_digest(compressed, &places.toc_digest) {
            return Err(TocError::Digest("table"));
        }
        let mut json = Vec::new();
        zstd::Decoder::with_buffer(compressed)
            .and_then(|decoder| decoder.take(places.toc_size + 1).read_to_end(&mut json))
            .map_err(TocError::Decompress)?;
        let raw: RawToc = serde_json::from_slice(&json)?;
        drop(json);
        if raw.version != 1 {
            return Err(TocError::Version(raw.version));
        }
        if raw.tar_split_digest.is_empty() {
            return Err(TocError::NoTarSplit);
        }
        if !has_digest(tar_split, &raw.tar_split_digest) {
            return Err(TocError::Digest("tar-split"));
        }
        let mut toc = Self::default();
        let mut entries = raw.entries.into_iter().peekable();
        while let Some(file) = entries.next() {
            if file.r#type != "reg" || file.size == 0 {
                continue;
            }
            let mut parts = vec![file];
            while let Some(part) = entries.next_if(|next| next.r#type == "chunk") {
                parts.push(part);
            }
            let name = parts[0].name.clone();
            let chunks = chunks(&parts).ok_or_else(|| TocError::File(name.clone()))?;
            // Of two with one name neither can be told by it.
            if toc.0.insert(name.clone(), chunks).is_some() {
                return Err(TocError::File(name));
            }
        }
        Ok(toc)
    }
}

/// The chunks of a file. The first entry has the whole one's size, digest and end.
fn chunks(parts: &[Entry]) -> Option<Vec<Chunk>> {
    let whole = &parts[0];
    let is_one = parts.len() == 1;
    let mut chunks = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let end = parts
            .get(index + 1)
            .map_or(whole.end_offset, |next| next.offset);
        let (size, digest) = match is_one {
            true => (whole.size, &whole.digest),
            false => (part.chunk_size, &part.chunk_digest),
        };
        if part.name != whole.name || part.offset >= end || size == 0 {
            return None;
        }
        chunks.push(Chunk {
            place: part.offset..end,
            size,
            digest: Digest::parse(digest).ok()?,
            zeros: part.chunk_type == "zeros",
        });
    }
    let size = chunks
        .iter()
        .try_fold(0_u64, |sum, chunk| sum.checked_add(chunk.size));
    (size == Some(whole.size)).then_some(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, offset: u64, end: u64, size: u64) -> Entry {
        Entry {
            r#type: kind.to_owned(),
            name: "a".to_owned(),
            size: if kind == "reg" { 10 } else { 0 },
            offset,
            end_offset: end,
            digest: Digest::from_sha256(&[1; 32]).to_string(),
            chunk_size: size,
            chunk_digest: Digest::from_sha256(&[2; 32]).to_string(),
            ..Entry::default()
        }
    }

    #[test]
    fn files_of_one_and_of_several_chunks_are_found() {
        let one = chunks(&[entry("reg", 5, 9, 0)]).unwrap();
        assert_eq!((one[0].place.clone(), one[0].size), (5..9, 10));
        let two = chunks(&[entry("reg", 5, 9, 6), entry("chunk", 7, 0, 4)]).unwrap();
        let places: Vec<_> = two.iter().map(|chunk| chunk.place.clone()).collect();
        assert_eq!(places, [5..7, 7..9]);
        for flawed in [
            vec![entry("reg", 9, 5, 0)],
            vec![entry("reg", 5, 9, 6), entry("chunk", 7, 0, 5)],
            vec![entry("reg", 5, 9, 6), entry("chunk", 4, 0, 4)],
        ] {
            assert!(chunks(&flawed).is_none());
        }
    }

    #[test]
    fn places_outside_of_the_blob_are_refused() {
        let of = |position: &str, tar_split: Option<&str>| {
            let mut blob = Descriptor {
                media_type: String::new(),
                digest: Digest::from_sha256(&[0; 32]),
                size: 1000,
                urls: Vec::new(),
                annotations: Default::default(),
            };
            let mut note = |name: &str, value: &str| {
                blob.annotations
                    .insert(format!("{PREFIX}{name}"), value.to_owned());
            };
            note("manifest-checksum", "sha256:0");
            note("manifest-position", position);
            if let Some(tar_split) = tar_split {
                note("tarsplit-position", tar_split);
            }
            Places::of(&blob)
                .unwrap()
                .map(|places| (places.toc, places.tar_split))
        };
        assert_eq!(
            of("100:50:200:1", Some("158:42:300")).unwrap(),
            (100..150, 158..200)
        );
        for position in [
            "100:50:200:2",
            "100:901:200:1",
            "100:0:1:1",
            "100:50:200",
            "a:1:1:1",
        ] {
            assert!(of(position, Some("158:42:300")).is_err(), "{position}");
        }
        assert!(matches!(
            of("100:50:200:1", None).unwrap_err(),
            TocError::NoTarSplit
        ));
    }
}
