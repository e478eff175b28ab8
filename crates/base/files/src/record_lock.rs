//! The lock that containers/storage puts in front of a set of record files.
//!
//! Two levels: a reader-writer lock between the threads of this process, and a record lock on the file between processes.
//! The first 64 bytes of the file are a token that every writer replaces; whoever remembers another token re-reads the records.
//! The file is opened by the first holder and closed by the last, so a lock file that was replaced meanwhile is noticed.

use crioxide_sys::locks::{LockKind, lock_file};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

const TOKEN_LENGTH: usize = 64;

/// Whether the process may write what the lock protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockAccess {
    /// Own store: the file is created when it is missing.
    ReadWrite,
    /// Somebody else's store: shared locks only, and none at all where the file cannot be had.
    ReadOnly,
}

/// The state of the protected records as their last writer marked it. Only equality means anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(Vec<u8>);

/// A named lock shared by all threads of the process and by other processes.
#[derive(Debug)]
pub struct RecordLock {
    path: PathBuf,
    access: LockAccess,
    threads: RwLock<()>,
    holders: Mutex<Holders>,
}

#[derive(Debug, Default)]
struct Holders {
    count: usize,
    /// `None` while nobody holds the lock, or for a read-only store without a lock file.
    file: Option<File>,
}

/// What a lock operation could not do.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}")]
pub struct RecordLockError {
    action: &'static str,
    /// The lock file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Shared possession of a [`RecordLock`].
#[derive(Debug)]
pub struct ReadGuard<'a> {
    lock: &'a RecordLock,
    _threads: RwLockReadGuard<'a, ()>,
}

/// Shared possession of a [`RecordLock`] against other processes, which any thread may give up. Threads of this process that
/// want to write wait for it as others do.
#[derive(Debug)]
pub struct Hold {
    /// Closing it drops the lock.
    _file: Option<File>,
}

/// Sole possession of a [`RecordLock`].
#[derive(Debug)]
pub struct WriteGuard<'a> {
    lock: &'a RecordLock,
    _threads: RwLockWriteGuard<'a, ()>,
}

impl RecordLock {
    /// Names the lock; nothing is opened until somebody takes it.
    pub fn new(path: impl Into<PathBuf>, access: LockAccess) -> Self {
        Self {
            path: path.into(),
            access,
            threads: RwLock::new(()),
            holders: Mutex::default(),
        }
    }

    /// The lock file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until no writer is left, here or elsewhere.
    pub fn read(&self) -> Result<ReadGuard<'_>, RecordLockError> {
        let threads = self.threads.read().unwrap_or_else(PoisonError::into_inner);
        let mut holders = self.holders();
        if holders.count == 0 {
            holders.file = self.open()?;
            if let Some(file) = &holders.file {
                lock_file(file, LockKind::Shared).map_err(self.fail("take a shared lock on"))?;
            }
        }
        holders.count += 1;
        drop(holders);
        Ok(ReadGuard {
            lock: self,
            _threads: threads,
        })
    }

    /// Waits until no writer is left, and keeps them away for as long as the result lives.
    pub fn hold(&self) -> Result<Hold, RecordLockError> {
        let file = self.open()?;
        if let Some(file) = &file {
            lock_file(file, LockKind::Shared).map_err(self.fail("take a shared lock on"))?;
        }
        Ok(Hold { _file: file })
    }

    /// Waits until nobody else holds the lock, here or elsewhere. Fails on a read-only lock.
    pub fn write(&self) -> Result<WriteGuard<'_>, RecordLockError> {
        if self.access == LockAccess::ReadOnly {
            return Err(self.fail("take an exclusive lock on")(
                io::ErrorKind::PermissionDenied.into(),
            ));
        }
        let threads = self.threads.write().unwrap_or_else(PoisonError::into_inner);
        let mut holders = self.holders();
        let file = self.open()?;
        if let Some(file) = &file {
            lock_file(file, LockKind::Exclusive).map_err(self.fail("take an exclusive lock on"))?;
        }
        *holders = Holders { count: 1, file };
        drop(holders);
        Ok(WriteGuard {
            lock: self,
            _threads: threads,
        })
    }

    fn open(&self) -> Result<Option<File>, RecordLockError> {
        let mode = Mode::from_raw_mode(0o644);
        if self.access == LockAccess::ReadOnly {
            // A store on a read-only file system, or one without a lock, cannot change under us.
            return Ok(
                rustix::fs::open(&self.path, OFlags::RDONLY | OFlags::CLOEXEC, mode)
                    .ok()
                    .map(File::from),
            );
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let opened = match rustix::fs::open(&self.path, flags, mode) {
            Err(rustix::io::Errno::NOENT) => {
                if let Some(parent) = self.path.parent() {
                    let mut builder = std::fs::DirBuilder::new();
                    builder
                        .recursive(true)
                        .mode(0o700)
                        .create(parent)
                        .map_err(self.fail("make the directory of"))?;
                }
                rustix::fs::open(&self.path, flags, mode)
            }
            other => other,
        };
        opened
            .map(|fd| Some(File::from(fd)))
            .map_err(|error| self.fail("open")(error.into()))
    }

    fn token(&self) -> Result<Token, RecordLockError> {
        let mut bytes = vec![0; TOKEN_LENGTH];
        let mut filled = 0;
        if let Some(file) = &self.holders().file {
            while filled < TOKEN_LENGTH {
                let count = file
                    .read_at(&mut bytes[filled..], filled as u64)
                    .map_err(self.fail("read the last writer's token from"))?;
                if count == 0 {
                    break;
                }
                filled += count;
            }
        }
        bytes.truncate(filled);
        Ok(Token(bytes))
    }

    fn release(&self) {
        let mut holders = self.holders();
        holders.count -= 1;
        if holders.count == 0 {
            // Closing the only descriptor of this open file drops its lock.
            holders.file = None;
        }
    }

    fn holders(&self) -> MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, action: &'static str) -> impl FnOnce(io::Error) -> RecordLockError {
        move |source| RecordLockError {
            action,
            path: self.path.clone(),
            source,
        }
    }
}

impl ReadGuard<'_> {
    /// The token of the last writer.
    pub fn token(&self) -> Result<Token, RecordLockError> {
        self.lock.token()
    }
}

impl Drop for ReadGuard<'_> {
    fn drop(&mut self) {
        self.lock.release();
    }
}

impl WriteGuard<'_> {
    /// The token of the last writer.
    pub fn token(&self) -> Result<Token, RecordLockError> {
        self.lock.token()
    }

    /// Tells all other processes to re-read. Call it *before* changing the records: if this process dies in between they
    /// merely re-read once too often.
    pub fn touch(&self) -> Result<Token, RecordLockError> {
        let token = fresh_token();
        let holders = self.lock.holders();
        let file = holders.file.as_ref().ok_or(io::ErrorKind::NotFound.into());
        file.and_then(|file| file.write_all_at(&token.0, 0))
            .map_err(self.lock.fail("write the last writer's token to"))?;
        Ok(token)
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        self.lock.release();
    }
}

/// Unix nanoseconds, a counter and the process id, all little-endian, then 44 random bytes.
fn fresh_token() -> Token {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let nanoseconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos() as u64);
    let mut bytes = vec![0; TOKEN_LENGTH];
    bytes[..8].copy_from_slice(&nanoseconds.to_le_bytes());
    bytes[8..16].copy_from_slice(&COUNTER.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    bytes[16..20].copy_from_slice(&std::process::id().to_le_bytes());
    getrandom::fill(&mut bytes[20..])
        .expect("the kernel's random source is there on every supported kernel");
    Token(bytes)
}

#[cfg(test)]
mod tests;
