//! Objects by id, by any unambiguous id prefix, and by name.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, RwLock},
};

use thiserror::Error;

/// Why an id finds nothing.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// No object has such an id.
    #[error("ID not found: {id}")]
    NotFound {
        /// As asked.
        id: String,
    },
    /// Several ids begin so.
    #[error("ID is ambiguous: {id}")]
    Ambiguous {
        /// As asked.
        id: String,
    },
    /// No id given.
    #[error("ID should not be empty")]
    Empty,
}

/// A set of objects. Readers get references that stay valid after a removal.
#[derive(Debug)]
pub(crate) struct Index<T> {
    inner: RwLock<Inner<T>>,
}

#[derive(Debug)]
struct Inner<T> {
    by_id: BTreeMap<String, Arc<T>>,
    by_name: HashMap<String, String>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self {
            inner: RwLock::new(Inner {
                by_id: BTreeMap::new(),
                by_name: HashMap::new(),
            }),
        }
    }
}

impl<T> Index<T> {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner<T>> {
        self.inner.read().expect("no holder of this lock panics")
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Inner<T>> {
        self.inner.write().expect("no holder of this lock panics")
    }

    /// Adds an object.
    pub(crate) fn insert(&self, id: &str, name: &str, object: Arc<T>) {
        let mut inner = self.write();
        inner.by_id.insert(id.to_owned(), object);
        inner.by_name.insert(name.to_owned(), id.to_owned());
    }

    /// Removes an object and its name.
    pub(crate) fn remove(&self, id: &str, name: &str) {
        let mut inner = self.write();
        inner.by_id.remove(id);
        if inner.by_name.get(name).is_some_and(|holder| holder == id) {
            inner.by_name.remove(name);
        }
    }

    /// The object with exactly this id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<T>> {
        self.read().by_id.get(id).cloned()
    }

    /// The object whose id is or begins with `prefix`.
    pub(crate) fn find(&self, prefix: &str) -> Result<Arc<T>, LookupError> {
        if prefix.is_empty() {
            return Err(LookupError::Empty);
        }
        let inner = self.read();
        let mut matching = inner
            .by_id
            .range(prefix.to_owned()..)
            .take_while(|(id, _)| id.starts_with(prefix));
        match (matching.next(), matching.next()) {
            (None, _) => Err(LookupError::NotFound {
                id: prefix.to_owned(),
            }),
            (Some((id, object)), Some(_)) if id == prefix => Ok(object.clone()),
            (Some((_, object)), None) => Ok(object.clone()),
            _ => Err(LookupError::Ambiguous {
                id: prefix.to_owned(),
            }),
        }
    }

    /// The id behind a name.
    pub(crate) fn id_of(&self, name: &str) -> Option<String> {
        self.read().by_name.get(name).cloned()
    }

    /// All objects.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.read().by_id.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_unambiguous_prefix() {
        let index = Index::default();
        index.insert("aaa1", "one", Arc::new(1));
        index.insert("aab2", "two", Arc::new(2));
        index.insert("aab", "three", Arc::new(3));
        assert_eq!(index.find("aaa").as_deref(), Ok(&1));
        assert_eq!(index.find("aab").as_deref(), Ok(&3));
        assert_eq!(index.find("aab2").as_deref(), Ok(&2));
        assert_eq!(
            index.find("a"),
            Err(LookupError::Ambiguous { id: "a".into() })
        );
        assert_eq!(
            index.find("b"),
            Err(LookupError::NotFound { id: "b".into() })
        );
        assert_eq!(index.find(""), Err(LookupError::Empty));
    }

    #[test]
    fn a_name_goes_with_its_object_only() {
        let index = Index::default();
        index.insert("a", "name", Arc::new(1));
        index.insert("b", "name", Arc::new(2));
        index.remove("a", "name");
        assert_eq!(index.id_of("name").as_deref(), Some("b"));
    }
}
