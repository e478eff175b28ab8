//! Changing records under the exclusive locks.

use super::{Cached, Records, RecordsError, Table};
use crate::record::Record;
use crioxide_files::{AtomicOptions, Sync, Token, WriteGuard, atomic_write};
use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

/// Records that nobody else can read or change until the transaction ends. Without [`Transaction::save`] nothing changes.
#[derive(Debug)]
pub(crate) struct Transaction<'a, R: Record> {
    records: &'a Records<R>,
    // Released after everything below, on drop.
    tokens: Vec<Token>,
    table: Arc<Table<R>>,
    dirty: BTreeSet<usize>,
    guards: Vec<WriteGuard<'a>>,
}

impl<'a, R: Record> Transaction<'a, R> {
    pub(super) fn new(
        records: &'a Records<R>,
        guards: Vec<WriteGuard<'a>>,
        tokens: Vec<Token>,
        table: Arc<Table<R>>,
    ) -> Self {
        let dirty = if table.is_repaired() {
            (0..records.files.len()).collect()
        } else {
            BTreeSet::new()
        };
        Self {
            records,
            tokens,
            table,
            dirty,
            guards,
        }
    }

    pub(crate) fn table(&self) -> &Table<R> {
        &self.table
    }

    /// Adds a record to the file with that number, taking its names from all others.
    pub(crate) fn insert(&mut self, record: R, file: usize) -> Result<(), RecordsError> {
        self.take_names(record.id(), record.names())?;
        Arc::make_mut(&mut self.table).insert(record, file)?;
        self.dirty.insert(file);
        Ok(())
    }

    /// Replaces the record with the same id, taking its names from all others.
    pub(crate) fn replace(&mut self, record: R) -> Result<(), RecordsError> {
        self.take_names(record.id(), record.names())?;
        let file = Arc::make_mut(&mut self.table).replace(record)?;
        self.dirty.extend(file);
        Ok(())
    }

    /// Drops a record.
    pub(crate) fn remove(&mut self, id: &str) -> Option<Arc<R>> {
        let removed = Arc::make_mut(&mut self.table).remove(id)?;
        self.dirty.insert(removed.file);
        Some(removed.record)
    }

    /// Publishes the changes: first the token, so that a crash in between only makes others re-read. What was written to
    /// files that are synced survives a power cut.
    pub(crate) fn save(&mut self) -> Result<(), RecordsError> {
        if self.dirty.is_empty() {
            return Ok(());
        }
        for (guard, token) in self.guards.iter().zip(&mut self.tokens) {
            *token = guard.touch()?;
        }
        for &index in &self.dirty {
            let file = &self.records.files[index];
            let bytes = array(
                self.table
                    .entries()
                    .iter()
                    .filter(|entry| entry.file == index)
                    .map(|entry| &*entry.json),
            );
            let options = AtomicOptions {
                mode: 0o600,
                sync: file.sync,
            };
            if let Err(error) = atomic_write(&file.path, &bytes, options) {
                if error.source.kind() != std::io::ErrorKind::NotFound {
                    return Err(error.into());
                }
                make_parent(&file.path)?;
                atomic_write(&file.path, &bytes, options)?;
            }
        }
        Arc::make_mut(&mut self.table).mark_saved();
        self.records.publish(Arc::clone(&self.table))?;
        for index in std::mem::take(&mut self.dirty) {
            let file = &self.records.files[index];
            if let (Sync::Data, Some(directory)) = (file.sync, file.path.parent()) {
                sync_directory(directory)?;
            }
        }
        Ok(())
    }

    /// Whether the files hold what the table does, though a failed [`Self::save`] may have left them to a power cut.
    pub(crate) fn is_written(&self) -> bool {
        self.dirty.is_empty()
    }

    fn take_names(&mut self, id: &str, names: &[String]) -> Result<(), RecordsError> {
        for name in names {
            let Some(holder) = self.table.by_name(name).filter(|holder| holder.id() != id) else {
                continue;
            };
            let mut holder = (**holder).clone();
            let kept = holder
                .names()
                .iter()
                .filter(|other| *other != name)
                .cloned()
                .collect();
            holder.set_names(kept);
            let file = Arc::make_mut(&mut self.table).replace(holder)?;
            self.dirty.extend(file);
        }
        Ok(())
    }
}

impl<R: Record> Drop for Transaction<'_, R> {
    fn drop(&mut self) {
        // Unsaved changes must not be remembered as the files' content.
        if !self.dirty.is_empty() {
            return;
        }
        if let Ok(stamps) = self.records.stamps() {
            let table = Arc::clone(&self.table);
            *self.records.cache() = Some(Cached {
                tokens: std::mem::take(&mut self.tokens),
                stamps,
                table,
            });
        }
    }
}

fn array<'j>(items: impl Iterator<Item = &'j [u8]>) -> Vec<u8> {
    let mut bytes = vec![b'['];
    for item in items {
        if bytes.len() > 1 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(item);
    }
    bytes.push(b']');
    bytes
}

fn sync_directory(path: &Path) -> Result<(), RecordsError> {
    std::fs::File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| RecordsError::SyncDirectory {
            path: path.to_owned(),
            source,
        })
}

fn make_parent(path: &Path) -> Result<(), RecordsError> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    let mut builder = std::fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(|source| RecordsError::MakeDirectory {
            path: parent.to_owned(),
            source,
        })
}
