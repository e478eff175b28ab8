//! From what a user types to an image of the store.

use std::sync::Arc;

use crioxide_names::{Digest, ImageReference};
use crioxide_registry::ShortNameMode;
use crioxide_store::ImageRecord;

use super::{Images, ImagesError};

/// An image and how it was meant.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) record: Arc<ImageRecord>,
    /// The full name that led to it; `None` if it was an id or a bare digest.
    pub(super) name: Option<ImageReference>,
}

impl Images {
    /// The image that `name` means: an id or at least 3 digits of one, a digest, a full name with tag or digest (of both
    /// the digest counts), or a short name.
    pub fn lookup(&self, name: &str) -> Result<Option<Arc<ImageRecord>>, ImagesError> {
        Ok(self.find(name)?.map(|found| found.record))
    }

    pub(super) fn find(&self, name: &str) -> Result<Option<Found>, ImagesError> {
        if name.is_empty() {
            return Err(ImagesError::NoName);
        }
        let name = name.strip_prefix("docker://").unwrap_or(name);
        if let Ok(digest) = Digest::parse(name) {
            return self.by_digest(&digest);
        }
        if is_hex(name)
            && let Some(record) = self
                .store()
                .image(name)?
                .filter(|record| record.id.starts_with(name))
        {
            return Ok(Some(Found { record, name: None }));
        }
        for candidate in self.candidates(name)? {
            if let Some(record) = self.by_reference(&candidate)? {
                return Ok(Some(Found {
                    record,
                    name: Some(candidate),
                }));
            }
        }
        Ok(None)
    }

    /// A manifest's digest, or an id written as the digest it is made of.
    fn by_digest(&self, digest: &Digest) -> Result<Option<Found>, ImagesError> {
        let record = match self.store().image(digest.as_str())? {
            Some(record) => Some(record),
            None => self.store().image(digest.hex())?,
        };
        Ok(record.map(|record| Found { record, name: None }))
    }

    fn by_reference(
        &self,
        reference: &ImageReference,
    ) -> Result<Option<Arc<ImageRecord>>, ImagesError> {
        if let Some(record) = self.store().image(&reference.to_string())? {
            return Ok(Some(record));
        }
        let Some(digest) = reference.digest() else {
            return Ok(None);
        };
        let repository = reference.repository();
        let in_repository = |name: &String| {
            ImageReference::parse(name).is_ok_and(|known| known.repository() == repository)
        };
        let known = self.store().images_by_digest(digest)?;
        Ok(known.into_iter().find(|record| {
            record
                .names
                .iter()
                .chain(&record.names_history)
                .any(in_repository)
        }))
    }

    /// The full names that `name` may stand for here: whether it may be pulled does not matter.
    pub(super) fn candidates(&self, name: &str) -> Result<Vec<ImageReference>, ImagesError> {
        let failed = |source| ImagesError::Name {
            name: name.to_owned(),
            source,
        };
        let short = match ImageReference::parse_or_short(name) {
            // A full id that is not there is no malformed name.
            Err(_) if is_hex(name) => return Ok(Vec::new()),
            parsed => parsed.map_err(failed)?,
        };
        let finish =
            |reference: ImageReference| reference.with_default_tag().without_tag_if_digested();
        let short = match short {
            Ok(reference) => return Ok(vec![finish(reference)]),
            Err(short) => short,
        };
        let conf = (*self.inner.conf())
            .clone()
            .with_short_name_mode(ShortNameMode::Disabled);
        let mut candidates = conf.candidates(name).unwrap_or_default();
        // Images built or loaded here have no registry; images of Docker's tools are from its own.
        for registry in ["localhost", "docker.io"] {
            let candidate = finish(short.qualify(registry).map_err(failed)?);
            if !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
        Ok(candidates)
    }
}

fn is_hex(text: &str) -> bool {
    text.len() >= 3
        && text.len() <= 64
        && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
