//! Unpacking a layer: one pass over the tar that hashes it, writes its files by descriptor, and keeps its tar-split.
//!
//! Two threads share the work: one reads, decompresses and hashes ([`ahead`]), the other one makes the files.

mod ahead;
mod directories;
mod error;
mod extract;
mod metadata;
mod over;
mod path;
mod room;
mod whiteout;

pub use error::UnpackError;
pub use over::apply_changes;

/// The name of an archive's entry as a path inside the layer; `None` when it leads out.
pub(crate) fn clean_path(name: &[u8]) -> Option<Vec<u8>> {
    path::clean(name).map(|components| components.join(&b'/'))
}

use self::extract::{ContentSource, Extractor};
use crate::driver::RootMode;
use crate::tar::{Chunks, Entry, Kind, Observer, TarError, TarReader};
use crate::tar_split::{TarSplitWriter, content_crc};
use crioxide_files::InRoot;
use crioxide_names::Digest;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Most owners of one layer: all are recorded.
const MAX_OWNERS: usize = 1 << 16;

/// What unpacking found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackSummary {
    /// SHA-256 of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the uncompressed tar.
    pub diff_size: u64,
    /// Sorted user ids of all headers, whiteouts excluded.
    pub uids: Vec<u32>,
    /// Sorted group ids of all headers, whiteouts excluded.
    pub gids: Vec<u32>,
}

/// The result, with what only the store needs.
pub(crate) struct Unpacked {
    pub(crate) summary: UnpackSummary,
    pub(crate) root: RootMode,
}

/// Unpacks `reader` into the empty directory `content` and writes its tar-split to the new file `tar_split`.
pub(crate) fn unpack(
    content: &Path,
    tar_split: &Path,
    reader: impl Read + Send,
) -> Result<Unpacked, UnpackError> {
    let (made, digest) = ahead::read_ahead(reader, |ahead| make(content, tar_split, ahead))
        .map_err(|source| TarError::Read { offset: 0, source })?;
    let Made {
        diff_size,
        uids,
        gids,
        root,
    } = made?;
    let diff_id = Digest::from_sha256(&digest);
    let summary = UnpackSummary {
        diff_id,
        diff_size,
        uids,
        gids,
    };
    Ok(Unpacked { summary, root })
}

/// What making the files found out.
struct Made {
    diff_size: u64,
    uids: Vec<u32>,
    gids: Vec<u32>,
    root: RootMode,
}

fn make(content: &Path, tar_split: &Path, chunks: impl Chunks) -> Result<Made, UnpackError> {
    let root = InRoot::open(content)?;
    let mut extractor = Extractor::new(root);
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(tar_split);
    let file = file.map_err(|source| UnpackError::TarSplit {
        path: tar_split.to_owned(),
        source,
    })?;
    let recorder = Recorder {
        split: TarSplitWriter::new(file),
    };
    let mut tar = TarReader::new(chunks, recorder);
    let (mut uids, mut gids) = (BTreeSet::new(), BTreeSet::new());

    while let Some(entry) = tar.next_entry()? {
        let path = path::clean(&entry.name).ok_or_else(|| UnpackError::escapes(&entry.name))?;
        if !path
            .last()
            .is_some_and(|name| name.starts_with(whiteout::PREFIX))
        {
            uids.insert(entry.uid);
            gids.insert(entry.gid);
            if uids.len().max(gids.len()) > MAX_OWNERS {
                return Err(UnpackError::Limit {
                    name: UnpackError::printable(&entry.name),
                    what: "different owners",
                    limit: MAX_OWNERS,
                });
            }
        }
        unpack_entry(&mut tar, &mut extractor, &entry, &path)?;
    }
    let diff_size = tar.offset();
    tar.observer
        .split
        .finish()
        .map_err(|source| UnpackError::TarSplit {
            path: tar_split.to_owned(),
            source,
        })?;
    let root = extractor.finish()?;
    Ok(Made {
        diff_size,
        uids: uids.into_iter().collect(),
        gids: gids.into_iter().collect(),
        root,
    })
}

fn unpack_entry<R: Chunks>(
    tar: &mut TarReader<R, Recorder>,
    extractor: &mut Extractor,
    entry: &Entry,
    path: &[&[u8]],
) -> Result<(), UnpackError> {
    let split_error = |source| UnpackError::Record {
        name: UnpackError::printable(&entry.name),
        source,
    };
    // The format cannot express holes: the content of sparse files is kept beside their header.
    let referenced = if entry.sparse.is_some() {
        0
    } else {
        entry.stored
    };
    let listed = tar
        .observer
        .split
        .announce(&path.join(&b'/'), referenced > 0)
        .map_err(|_| UnpackError::Duplicate {
            name: UnpackError::printable(&entry.name),
        })?;
    let plain = entry.kind == Kind::File && entry.sparse.is_none();
    if !plain && listed {
        tar.observer
            .split
            .file(&entry.name, 0, 0)
            .map_err(split_error)?;
    }
    let mut content = EntryContent {
        tar,
        crc: plain.then(content_crc),
    };
    match whiteout::meaning(path) {
        whiteout::Meaning::Ordinary => extractor.extract(entry, path, &mut content)?,
        _ if entry.stored > 0 => {
            return Err(UnpackError::Whiteout {
                name: UnpackError::printable(&entry.name),
            });
        }
        whiteout::Meaning::Ignored => {}
        whiteout::Meaning::Opaque(directory) => extractor.make_opaque(entry, directory)?,
        whiteout::Meaning::Hides(target) => extractor.white_out(entry, &target)?,
        whiteout::Meaning::Invalid => {
            return Err(UnpackError::Whiteout {
                name: UnpackError::printable(&entry.name),
            });
        }
    }
    let EntryContent { tar, crc } = content;
    if let Some(crc) = crc.filter(|_| listed) {
        tar.observer
            .split
            .file(&entry.name, referenced, crc.finalize())
            .map_err(split_error)?;
    }
    Ok(())
}

/// The current entry's content: with its checksum for plain files, kept whole for sparse ones.
struct EntryContent<'t, R> {
    tar: &'t mut TarReader<R, Recorder>,
    crc: Option<crc_fast::Digest>,
}

impl<R: Chunks> ContentSource for EntryContent<'_, R> {
    fn next(&mut self, limit: u64) -> Result<&[u8], TarError> {
        match &mut self.crc {
            None => self.tar.raw_content(limit),
            Some(crc) => {
                let piece = self.tar.content()?;
                crc.update(piece);
                Ok(piece)
            }
        }
    }
}

/// Keeps what is not file content.
struct Recorder {
    split: TarSplitWriter,
}

impl Observer for Recorder {
    fn raw(&mut self, bytes: &[u8]) -> Result<(), std::io::Error> {
        self.split.raw(bytes)
    }
}

#[cfg(test)]
mod tests;
