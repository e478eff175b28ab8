//! What can go wrong with unpacking.

use crate::tar::TarError;
use crioxide_files::InRootError;
use std::io;
use std::path::PathBuf;

/// A layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is damaged or hostile, or its stream failed.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A path could not be looked up in the layer.
    #[error(transparent)]
    Lookup(#[from] InRootError),
    /// An entry's name leads out of the layer.
    #[error("archive entry `{name}`: the name leads out of the layer")]
    Escapes {
        /// The name.
        name: String,
    },
    /// Its directories are nested too deep.
    #[error("archive entry `{name}`: directories are nested deeper than the limit of {limit}")]
    Deep {
        /// The name.
        name: String,
        /// The limit.
        limit: usize,
    },
    /// The archive needs more room than its file system has.
    #[error("archive entry `{name}`: no room, {free} bytes are free and {reserve} of them stay so")]
    NoRoom {
        /// The name.
        name: String,
        /// Bytes free.
        free: u64,
        /// Bytes that are left to others.
        reserve: u64,
    },
    /// The archive holds more of something than any image.
    #[error("archive entry `{name}`: {what} beyond the limit of {limit}")]
    Limit {
        /// The name.
        name: String,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The archive holds a path twice.
    #[error("archive entry `{name}`: duplicates of file paths not supported")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A whiteout hides nothing that could be named, or has content.
    #[error("archive entry `{name}`: malformed whiteout")]
    Whiteout {
        /// The name.
        name: String,
    },
    /// Changes of a container hold a device.
    #[error("archive entry `{name}`: a device")]
    Device {
        /// The name.
        name: String,
    },
    /// An entry could not be made.
    #[error("archive entry `{name}`: {action}")]
    Entry {
        /// The name.
        name: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The tar-split file could not be made or completed.
    #[error("write {path}")]
    TarSplit {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An entry could not be added to the tar-split file.
    #[error("archive entry `{name}`: record it for reproduction")]
    Record {
        /// The name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

impl UnpackError {
    pub(super) fn escapes(name: &[u8]) -> Self {
        Self::Escapes {
            name: Self::printable(name),
        }
    }

    pub(super) fn deep(name: &[u8]) -> Self {
        Self::Deep {
            name: Self::printable(name),
            limit: super::path::MAX_DEPTH,
        }
    }

    /// A name from an archive, fit for a message.
    pub(super) fn printable(name: &[u8]) -> String {
        let cut = &name[..name.len().min(256)];
        cut.escape_ascii().to_string()
    }
}
