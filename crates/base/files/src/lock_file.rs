//! A lock that lives exactly as long as its owner, to tell leftovers of a crash from what is in use.

use crioxide_sys::locks::{LockKind, try_lock_file};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// An exclusively locked file. The kernel drops the lock when the value, or the process, goes away.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    _file: File,
}

/// A lock file could not be opened or locked, for another reason than being held.
#[derive(Debug, thiserror::Error)]
#[error("lock {path}")]
pub struct LockFileError {
    /// The lock file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl LockFile {
    /// Creates the file if it is not there and locks it; `None` when somebody else holds it.
    pub fn try_acquire(path: impl Into<PathBuf>) -> Result<Option<Self>, LockFileError> {
        let path = path.into();
        let locked = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&path)
            .and_then(|file| Ok((try_lock_file(&file, LockKind::Exclusive)?, file)));
        match locked {
            Ok((true, file)) => Ok(Some(Self { path, _file: file })),
            Ok((false, _)) => Ok(None),
            Err(source) => Err(LockFileError { path, source }),
        }
    }

    /// Where the lock file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_seen_and_a_dropped_one_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = LockFile::try_acquire(&path)
            .unwrap()
            .expect("nobody holds it");
        assert!(LockFile::try_acquire(&path).unwrap().is_none());
        drop(held);
        assert!(LockFile::try_acquire(&path).unwrap().is_some());
    }
}
