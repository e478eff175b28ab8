//! A set of record files behind its locks: parsed once, re-read when another process wrote, replaced atomically.

mod error;
pub(crate) mod go_json;
mod table;
pub(crate) mod time;
mod transaction;

pub use error::RecordsError;
pub(crate) use table::Table;
pub(crate) use transaction::Transaction;

use crate::record::Record;
use crioxide_files::{LockAccess, RecordLock, Sync, Token, read_limited, remove_temporaries};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So often the files may be replaced while they are read; then they are read under their locks.
const GLANCES: usize = 5;
/// More than any node's records; a larger file is damage, not data.
const MAX_RECORDS_FILE: u64 = 1 << 30;

/// One JSON file of a set.
#[derive(Debug)]
pub(crate) struct RecordFile {
    pub(crate) path: PathBuf,
    pub(crate) sync: Sync,
}

/// All records of one kind of one store.
#[derive(Debug)]
pub(crate) struct Records<R> {
    locks: Vec<RecordLock>,
    files: Vec<RecordFile>,
    cache: Mutex<Option<Cached<R>>>,
    latest: Mutex<Option<Latest<R>>>,
}

/// What the files with those stamps hold.
#[derive(Debug)]
struct Latest<R> {
    stamps: Vec<Option<Stamp>>,
    table: Arc<Table<R>>,
}

/// The files' content as of the tokens and stamps.
#[derive(Debug)]
struct Cached<R> {
    tokens: Vec<Token>,
    stamps: Vec<Option<Stamp>>,
    table: Arc<Table<R>>,
}

/// Tells one version of a file from the next: inode, mtime, size.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp(u64, i64, i64, u64);

impl<R: Record> Records<R> {
    pub(crate) fn new(locks: Vec<PathBuf>, files: Vec<RecordFile>, access: LockAccess) -> Self {
        let locks = locks
            .into_iter()
            .map(|path| RecordLock::new(path, access))
            .collect();
        Self {
            locks,
            files,
            cache: Mutex::new(None),
            latest: Mutex::new(None),
        }
    }

    /// What the files hold, without waiting for a writer that is at work, who may wait for a disk: for those who only look.
    ///
    /// Files are replaced, never changed, and so one that is the same holds the same.
    pub(crate) fn glance(&self) -> Result<Arc<Table<R>>, RecordsError> {
        let mut stamps = self.stamps()?;
        for _ in 0..GLANCES {
            let known = self.latest();
            if let Some(latest) = known.as_ref().filter(|latest| latest.stamps == stamps) {
                return Ok(Arc::clone(&latest.table));
            }
            drop(known);
            let table = Arc::new(self.load()?);
            let after = self.stamps()?;
            if after == stamps {
                *self.latest() = Some(Latest {
                    stamps,
                    table: Arc::clone(&table),
                });
                return Ok(table);
            }
            stamps = after;
        }
        self.read_while(|table| {
            self.publish(Arc::clone(&table))?;
            Ok(table)
        })
    }

    /// A consistent snapshot of all records.
    pub(crate) fn read(&self) -> Result<Arc<Table<R>>, RecordsError> {
        self.read_while(Ok)
    }

    /// Runs `action` on a snapshot while the shared locks are held, so that nobody changes the records meanwhile.
    pub(crate) fn read_while<T, E: From<RecordsError>>(
        &self,
        action: impl FnOnce(Arc<Table<R>>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut guards = Vec::with_capacity(self.locks.len());
        for lock in &self.locks {
            guards.push(lock.read().map_err(RecordsError::from)?);
        }
        let mut tokens = Vec::with_capacity(guards.len());
        for guard in &guards {
            tokens.push(guard.token().map_err(RecordsError::from)?);
        }
        let stamps = self.stamps()?;
        let cached = self
            .cache()
            .as_ref()
            .and_then(|cached| cached.if_current(&tokens, &stamps));
        let table = match cached {
            Some(table) => table,
            None => {
                let table = Arc::new(self.load()?);
                *self.cache() = Some(Cached {
                    tokens,
                    stamps,
                    table: Arc::clone(&table),
                });
                table
            }
        };
        action(table)
    }

    /// Takes the locks for writing and brings the records up to date.
    pub(crate) fn write(&self) -> Result<Transaction<'_, R>, RecordsError> {
        let mut guards = Vec::with_capacity(self.locks.len());
        for lock in &self.locks {
            guards.push(lock.write()?);
        }
        let tokens = guards
            .iter()
            .map(|guard| guard.token())
            .collect::<Result<Vec<_>, _>>()?;
        let stamps = self.stamps()?;
        // Taken out, so that a transaction that fails half-way leaves no stale snapshot behind.
        let cached = self.cache().take();
        let table = match cached
            .as_ref()
            .and_then(|cached| cached.if_current(&tokens, &stamps))
        {
            Some(table) => table,
            None => Arc::new(self.load()?),
        };
        drop(cached);
        Ok(Transaction::new(self, guards, tokens, table))
    }

    /// Removes what writers that were killed left beside the files, and writes files anew that others could not read.
    pub(crate) fn remove_leftovers(&self) -> Result<(), RecordsError> {
        let mut guards = Vec::with_capacity(self.locks.len());
        for lock in &self.locks {
            guards.push(lock.write()?);
        }
        for file in &self.files {
            let (Some(directory), Some(name)) = (file.path.parent(), file.path.file_name()) else {
                continue;
            };
            remove_temporaries(directory, Some(name)).map_err(|source| {
                RecordsError::RemoveLeftovers {
                    path: file.path.clone(),
                    source,
                }
            })?;
        }
        drop(guards);
        let mut records = self.write()?;
        if records.table().is_repaired() {
            records.save()?;
        }
        Ok(())
    }

    fn load(&self) -> Result<Table<R>, RecordsError> {
        let mut table = Table::default();
        for (index, file) in self.files.iter().enumerate() {
            match read_limited(&file.path, MAX_RECORDS_FILE) {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => {
                    let before = table.clone();
                    match table.load(&bytes, index) {
                        Ok(()) => {}
                        Err(error) if file.sync == Sync::None && is_torn(&bytes, &error) => {
                            tracing::warn!(
                                "{} was lost in a power cut, with the {} records in it",
                                file.path.display(),
                                R::KIND
                            );
                            table = before;
                            table.mark_repaired();
                        }
                        Err(source) => {
                            return Err(RecordsError::Parse {
                                path: file.path.clone(),
                                kind: R::KIND,
                                source,
                            });
                        }
                    }
                }
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(table)
    }

    fn stamps(&self) -> Result<Vec<Option<Stamp>>, RecordsError> {
        let stamp = |file: &RecordFile| match std::fs::metadata(&file.path) {
            Ok(meta) => Ok(Some(Stamp(
                meta.ino(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.size(),
            ))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RecordsError::Stat {
                path: file.path.clone(),
                source,
            }),
        };
        self.files.iter().map(stamp).collect()
    }

    /// Remembers what the files hold now. A lock must be held.
    fn publish(&self, table: Arc<Table<R>>) -> Result<(), RecordsError> {
        let stamps = self.stamps()?;
        *self.latest() = Some(Latest { stamps, table });
        Ok(())
    }

    fn latest(&self) -> MutexGuard<'_, Option<Latest<R>>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> MutexGuard<'_, Option<Cached<R>>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this is what a power cut makes of a file whose content was never flushed: blocks that are missing, inside or at
/// the end. JSON has no NUL.
fn is_torn(bytes: &[u8], error: &serde_json::Error) -> bool {
    error.is_eof() || bytes.contains(&0)
}

impl<R> Cached<R> {
    fn if_current(&self, tokens: &[Token], stamps: &[Option<Stamp>]) -> Option<Arc<Table<R>>> {
        (self.tokens == tokens && self.stamps == stamps).then(|| Arc::clone(&self.table))
    }
}

#[cfg(test)]
mod tests;
