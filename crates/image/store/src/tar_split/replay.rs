//! Reproducing a layer's tar from its tar-split file and its content.

use super::{TarSplitEntry, TarSplitError, TarSplitReader, content_crc};
use crc_fast::Digest;
use crioxide_files::InRoot;
use flate2::read::MultiGzDecoder;
use rustix::fs::OFlags;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The uncompressed tar of a layer, as a stream. Content that was changed is an error, not other bytes.
pub struct LayerTar {
    lines: TarSplitReader<MultiGzDecoder<File>>,
    root: InRoot,
    current: Current,
}

enum Current {
    Between,
    Segment {
        bytes: Vec<u8>,
        taken: usize,
    },
    Content {
        file: File,
        name: PathBuf,
        remaining: u64,
        crc: Box<Digest>,
        expected: u64,
    },
}

/// Why a layer's tar cannot be reproduced. Reading it reports these inside [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub enum LayerTarError {
    /// The layer has no tar-split file, as the writable layers of containers.
    #[error("layer {id} has no tar-split file {path}")]
    NoTarSplit {
        /// The layer.
        id: String,
        /// Where the file would be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of the tar-split file makes no sense.
    #[error("tar-split file of {root}: {problem}")]
    Line {
        /// The layer's content directory.
        root: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// A file has other content than the archive had.
    #[error("{} in {} was changed since it was unpacked", name.display(), root.display())]
    Changed {
        /// The layer's content directory.
        root: PathBuf,
        /// The file in it.
        name: PathBuf,
    },
    /// A file is missing or cannot be read.
    #[error(transparent)]
    Content(#[from] crioxide_files::InRootError),
}

impl LayerTar {
    pub(crate) fn new(tar_split: File, root: InRoot) -> Self {
        Self {
            lines: TarSplitReader::new(MultiGzDecoder::new(tar_split)),
            root,
            current: Current::Between,
        }
    }

    /// Goes to the next line; `false` at the end.
    fn advance(&mut self) -> io::Result<bool> {
        let entry = self.lines.next_entry().map_err(|error| match error {
            TarSplitError::Read(source) => source,
            TarSplitError::Line(problem) => io::Error::other(LayerTarError::Line {
                root: self.root.path().to_owned(),
                problem,
            }),
        })?;
        self.current = match entry {
            None => return Ok(false),
            Some(TarSplitEntry::Segment(bytes)) => Current::Segment { bytes, taken: 0 },
            Some(TarSplitEntry::File { content, .. }) if content.size == 0 => Current::Between,
            Some(TarSplitEntry::File { name, content }) => {
                let name = PathBuf::from(OsString::from_vec(name));
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
                let file = self
                    .root
                    .open_file(&name, flags)
                    .map_err(|error| io::Error::other(LayerTarError::from(error)))?;
                Current::Content {
                    file,
                    name,
                    remaining: content.size,
                    crc: Box::new(content_crc()),
                    expected: content.crc,
                }
            }
        };
        Ok(true)
    }
}

impl Read for LayerTar {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.current {
                Current::Between => {}
                Current::Segment { bytes, taken } => {
                    let count = into.len().min(bytes.len() - *taken);
                    if count > 0 {
                        into[..count].copy_from_slice(&bytes[*taken..*taken + count]);
                        *taken += count;
                        return Ok(count);
                    }
                }
                Current::Content {
                    file,
                    name,
                    remaining,
                    crc,
                    expected,
                } => {
                    let changed = |name: &PathBuf| {
                        io::Error::other(LayerTarError::Changed {
                            root: self.root.path().to_owned(),
                            name: name.clone(),
                        })
                    };
                    if *remaining > 0 {
                        let limit = usize::try_from(*remaining)
                            .unwrap_or(usize::MAX)
                            .min(into.len());
                        let count = file.read(&mut into[..limit])?;
                        if count == 0 {
                            return Err(changed(name));
                        }
                        *remaining -= count as u64;
                        crc.update(&into[..count]);
                        return Ok(count);
                    }
                    let actual = std::mem::replace(&mut **crc, content_crc()).finalize();
                    if actual != *expected {
                        return Err(changed(name));
                    }
                }
            }
            self.current = Current::Between;
            if !self.advance()? {
                return Ok(0);
            }
        }
    }
}

impl std::fmt::Debug for LayerTar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerTar")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}
