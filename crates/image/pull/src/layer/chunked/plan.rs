//! Which content is there, and which parts of the blob are to be fetched.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crioxide_store::{FileContent, LayerFile, Store, TarSplitReader};

use super::NotPartial;
use super::toc::{Chunk, Toc, TocError};

/// Parts that are nearer to each other than this are fetched as one (bytes): that is quicker than to ask twice.
const GAP: u64 = 128 << 10;

/// Where the content of each file comes from.
#[derive(Debug)]
pub(super) struct Plan {
    /// Of each file that has content, in the order of the tar.
    pub(super) origins: Vec<Origin>,
    /// Parts of the blob, in its order.
    pub(super) ranges: Vec<Range<u64>>,
    pub(super) reused_files: usize,
    pub(super) reused_bytes: u64,
}

#[derive(Debug)]
pub(super) enum Origin {
    Local(LayerFile),
    Blob(Vec<Chunk>),
}

impl Plan {
    pub(super) fn make(mut toc: Toc, tar_split: &[u8], store: &Store) -> Result<Self, NotPartial> {
        let decoder = zstd::Decoder::with_buffer(tar_split).map_err(TocError::Decompress)?;
        let mut entries = TarSplitReader::new(decoder);
        let mut files = Vec::new();
        while let Some((name, content)) = entries.next_file().map_err(TocError::from)? {
            let name = String::from_utf8_lossy(&name);
            let chunks = toc
                .0
                .remove(&*name)
                .filter(|chunks| chunks.iter().map(|chunk| chunk.size).sum::<u64>() == content.size)
                .ok_or_else(|| TocError::File(name.into_owned()))?;
            files.push((content, chunks));
        }
        let wanted: HashSet<FileContent> = files.iter().map(|(content, _)| *content).collect();
        let found = store.find_contents(&wanted).map_err(TocError::from)?;
        Ok(Self::of(files, &found))
    }

    fn of(files: Vec<(FileContent, Vec<Chunk>)>, found: &HashMap<FileContent, LayerFile>) -> Self {
        let mut plan = Self {
            origins: Vec::with_capacity(files.len()),
            ranges: Vec::new(),
            reused_files: 0,
            reused_bytes: 0,
        };
        for (content, chunks) in files {
            if let Some(file) = found.get(&content) {
                plan.reused_files += 1;
                plan.reused_bytes += content.size;
                plan.origins.push(Origin::Local(file.clone()));
                continue;
            }
            for chunk in chunks.iter().filter(|chunk| !chunk.zeros) {
                plan.want(&chunk.place);
            }
            plan.origins.push(Origin::Blob(chunks));
        }
        plan
    }

    fn want(&mut self, place: &Range<u64>) {
        match self.ranges.last_mut() {
            Some(last) if last.start <= place.start && place.start <= last.end + GAP => {
                last.end = last.end.max(place.end);
            }
            _ => self.ranges.push(place.clone()),
        }
    }

    /// Bytes to fetch.
    pub(super) fn missing(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_parts_are_fetched_together() {
        let chunk = |start: u64, end: u64, zeros| Chunk {
            place: start..end,
            size: 1,
            digest: crioxide_names::Digest::from_sha256(&[0; 32]),
            zeros,
        };
        let content = FileContent { size: 1, crc: 0 };
        let far = 10 * GAP;
        let files = vec![
            (content, vec![chunk(0, 10, false), chunk(10, 20, true)]),
            (content, vec![chunk(1000, 1010, false)]),
            (content, vec![chunk(far, far + 5, false)]),
            (content, vec![chunk(2 * far, 2 * far + 5, true)]),
        ];
        let plan = Plan::of(files, &HashMap::new());
        assert_eq!(plan.ranges, [0..1010, far..far + 5]);
        assert_eq!(plan.missing(), 1015);
    }
}
