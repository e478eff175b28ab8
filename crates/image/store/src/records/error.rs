//! What can go wrong between the record files and their memory image.

use crioxide_files::{AtomicWriteError, ReadLimitedError, RecordLockError};
use std::path::PathBuf;

/// The records of a store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// A lock could not be taken or marked.
    #[error(transparent)]
    Lock(#[from] RecordLockError),
    /// A file could not be looked at.
    #[error("look at {path}")]
    Stat {
        /// The records file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be read.
    #[error(transparent)]
    Read(#[from] ReadLimitedError),
    /// A file holds something else than an array of records.
    #[error("parse the {kind} records in {path}")]
    Parse {
        /// The records file.
        path: PathBuf,
        /// Kind of record.
        kind: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A record could not be turned into JSON.
    #[error("encode the {kind} record {id}")]
    Encode {
        /// Kind of record.
        kind: &'static str,
        /// Its id.
        id: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A file could not be replaced.
    #[error(transparent)]
    Write(#[from] AtomicWriteError),
    /// The directory of a file could not be made.
    #[error("make directory {path}")]
    MakeDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The directory of a file could not be made durable.
    #[error("sync directory {path}")]
    SyncDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What a killed writer left could not be removed.
    #[error("remove temporary files beside {path}")]
    RemoveLeftovers {
        /// The records file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
