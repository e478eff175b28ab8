//! Parsed records with indexes by id and name, each with its JSON text.
//!
//! Untouched records are written back byte for byte, unknown fields and all, and saving costs no encoding.

use super::RecordsError;
use crate::record::Record;
use crate::records::go_json;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::Arc;

/// The records of one kind, in file order.
#[derive(Debug, Clone)]
pub(crate) struct Table<R> {
    entries: Vec<Entry<R>>,
    by_id: HashMap<Arc<str>, usize>,
    by_name: HashMap<Arc<str>, usize>,
    repaired: bool,
}

/// A record, its text, and the number of the file it lives in.
#[derive(Debug, Clone)]
pub(crate) struct Entry<R> {
    pub(crate) record: Arc<R>,
    pub(crate) json: Arc<[u8]>,
    pub(crate) file: usize,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            by_id: HashMap::new(),
            by_name: HashMap::new(),
            repaired: false,
        }
    }
}

impl<R: Record> Table<R> {
    pub(crate) fn get(&self, id: &str) -> Option<&Arc<R>> {
        self.entry(id).map(|entry| &entry.record)
    }

    pub(crate) fn entry(&self, id: &str) -> Option<&Entry<R>> {
        self.by_id.get(id).map(|&at| &self.entries[at])
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<R>> {
        self.by_name.get(name).map(|&at| &self.entries[at].record)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<R>> {
        self.entries.iter().map(|entry| &entry.record)
    }

    pub(crate) fn entries(&self) -> &[Entry<R>] {
        &self.entries
    }

    /// Whether loading dropped a duplicate, so that file and table differ.
    pub(crate) fn is_repaired(&self) -> bool {
        self.repaired
    }

    /// Some records were lost: the files are to be written anew.
    pub(super) fn mark_repaired(&mut self) {
        self.repaired = true;
    }

    pub(crate) fn mark_saved(&mut self) {
        self.repaired = false;
    }

    /// Adds the records of a file. Of records with one id the first stays; of records with one name the last has it.
    pub(super) fn load(&mut self, bytes: &[u8], file: usize) -> Result<(), serde_json::Error> {
        let raw: Vec<&RawValue> = serde_json::from_slice::<Option<_>>(bytes)?.unwrap_or_default();
        for text in raw {
            let record: R = serde_json::from_str(text.get())?;
            if self.by_id.contains_key(record.id()) {
                self.repaired = true;
                continue;
            }
            for name in record.names() {
                if let Some(&at) = self.by_name.get(name.as_str()) {
                    self.take_name(at, name);
                }
            }
            let entry = Entry {
                record: Arc::new(record),
                json: text.get().as_bytes().into(),
                file,
            };
            self.push(entry);
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, record: R, file: usize) -> Result<(), RecordsError> {
        let entry = encode(record, file)?;
        self.push(entry);
        Ok(())
    }

    pub(super) fn replace(&mut self, record: R) -> Result<Option<usize>, RecordsError> {
        let Some(&at) = self.by_id.get(record.id()) else {
            return Ok(None);
        };
        let file = self.entries[at].file;
        let entry = encode(record, file)?;
        for name in self.entries[at].record.names() {
            self.by_name.remove(name.as_str());
        }
        for name in entry.record.names() {
            self.by_name.insert(name.as_str().into(), at);
        }
        self.entries[at] = entry;
        Ok(Some(file))
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Entry<R>> {
        let at = *self.by_id.get(id)?;
        let removed = self.entries.remove(at);
        self.reindex();
        Some(removed)
    }

    fn push(&mut self, entry: Entry<R>) {
        let at = self.entries.len();
        self.by_id.insert(entry.record.id().into(), at);
        for name in entry.record.names() {
            self.by_name.insert(name.as_str().into(), at);
        }
        self.entries.push(entry);
    }

    fn take_name(&mut self, at: usize, name: &str) {
        let mut record = (*self.entries[at].record).clone();
        let names = record
            .names()
            .iter()
            .filter(|other| *other != name)
            .cloned()
            .collect();
        record.set_names(names);
        // The record was just parsed, so it encodes; were it not so, the old text stays and is repaired next time.
        if let Ok(entry) = encode(record, self.entries[at].file) {
            self.entries[at] = entry;
        }
        self.repaired = true;
    }

    fn reindex(&mut self) {
        self.by_id.clear();
        self.by_name.clear();
        for (at, entry) in self.entries.iter().enumerate() {
            self.by_id.insert(entry.record.id().into(), at);
            for name in entry.record.names() {
                self.by_name.insert(name.as_str().into(), at);
            }
        }
    }
}

fn encode<R: Record>(record: R, file: usize) -> Result<Entry<R>, RecordsError> {
    let json = go_json::to_vec(&record).map_err(|source| RecordsError::Encode {
        kind: R::KIND,
        id: record.id().to_owned(),
        source,
    })?;
    Ok(Entry {
        record: Arc::new(record),
        json: json.into(),
        file,
    })
}
