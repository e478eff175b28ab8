//! The images that are there: what a container runtime asks about them.
//!
//! Everything here reads and writes the store and may wait for its locks, so call it from threads that may block.

mod artifact;
mod error;
mod info;
mod lookup;
mod pinned;
mod remove;
mod verify;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crioxide_store::{ImageRecord, Store};

pub use error::ImagesError;
pub use info::{ImageInfo, ImageUser};
pub use pinned::PinnedImages;
pub use remove::Removal;
pub use verify::VerifyError;

use crate::puller::{Inner, Puller};
use info::Content;

/// The images of a puller's store.
#[derive(Debug)]
pub struct Images {
    inner: Arc<Inner>,
    /// What never changes about an image, by id.
    contents: Mutex<HashMap<String, Arc<Content>>>,
}

impl Images {
    /// The images of `puller`'s store, found by its rules for short names.
    #[must_use]
    pub fn new(puller: &Puller) -> Self {
        Self {
            inner: puller.inner().clone(),
            contents: Mutex::default(),
        }
    }

    /// All images. One that is damaged is left out and logged.
    pub fn list(&self) -> Result<Vec<ImageInfo>, ImagesError> {
        let records = self.store().images()?;
        self.contents()
            .retain(|id, _| records.iter().any(|record| record.id == *id));
        let mut infos = Vec::with_capacity(records.len());
        for record in records {
            match self.describe(&record) {
                Ok(info) => infos.push(info),
                Err(error) => tracing::warn!(
                    image = record.id,
                    error = crate::error::chain(&error),
                    "image is damaged"
                ),
            }
        }
        Ok(infos)
    }

    /// The image that `name` means: see [`Images::lookup`].
    pub fn status(&self, name: &str) -> Result<Option<ImageInfo>, ImagesError> {
        self.lookup(name)?
            .map(|record| self.describe(&record))
            .transpose()
    }

    /// What is known about the image of a record.
    pub fn describe(&self, record: &ImageRecord) -> Result<ImageInfo, ImagesError> {
        let known = self
            .contents()
            .get(&record.id)
            .filter(|content| content.is_of(record))
            .cloned();
        let content = match known {
            Some(content) => content,
            None => {
                let content = Arc::new(Content::load(self.store(), record)?);
                self.contents().insert(record.id.clone(), content.clone());
                content
            }
        };
        ImageInfo::new(record, &content)
    }

    fn store(&self) -> &Store {
        &self.inner.copier.store
    }

    fn contents(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Content>>> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
