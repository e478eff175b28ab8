//! Finding images by id, name, digest or the start of an id, in the own store and then in additional ones.

use super::ImageError;
use crate::record::ImageRecord;
use crate::records::{RecordsError, Table};
use crate::{LayerId, Store};
use crioxide_names::Digest;
use std::sync::Arc;

/// Shorter starts of ids are taken for names.
const MIN_PREFIX: usize = 3;

impl Store {
    /// All images; one with the same id in an additional store is left out.
    pub fn images(&self) -> Result<Vec<Arc<ImageRecord>>, ImageError> {
        let own = self.images.glance()?;
        let mut all: Vec<_> = own.iter().cloned().collect();
        for foreign in &self.foreign {
            let new: Vec<_> = foreign
                .images
                .glance()?
                .iter()
                .filter(|image| all.iter().all(|known| known.id != image.id))
                .cloned()
                .collect();
            all.extend(new);
        }
        Ok(all)
    }

    /// The image that `lookup` means: an id, a full name, a digest, or at least 3 digits that only one id starts with.
    pub fn image(&self, lookup: &str) -> Result<Option<Arc<ImageRecord>>, ImageError> {
        let tables = self.image_tables()?;
        let exact = tables
            .iter()
            .find_map(|table| table.get(lookup).or_else(|| table.by_name(lookup)));
        if let Some(image) = exact {
            return Ok(Some(Arc::clone(image)));
        }
        if Digest::parse(lookup).is_ok() {
            let found = tables
                .iter()
                .flat_map(|table| table.iter())
                .find(|image| has_digest(image, lookup));
            return Ok(found.cloned());
        }
        by_prefix(&tables, lookup)
    }

    /// As [`Store::image`], but an unknown image is an error.
    pub fn require_image(&self, lookup: &str) -> Result<Arc<ImageRecord>, ImageError> {
        self.image(lookup)?.ok_or_else(|| ImageError::Unknown {
            lookup: lookup.to_owned(),
        })
    }

    /// All images one of whose manifests has that digest.
    pub fn images_by_digest(&self, digest: &Digest) -> Result<Vec<Arc<ImageRecord>>, ImageError> {
        let matching = self
            .images()?
            .into_iter()
            .filter(|image| has_digest(image, digest.as_str()));
        Ok(matching.collect())
    }

    /// All images whose top layer it is.
    pub fn images_using_layer(&self, layer: &LayerId) -> Result<Vec<Arc<ImageRecord>>, ImageError> {
        let uses = |image: &Arc<ImageRecord>| image.top_layers().any(|top| top == layer.as_str());
        Ok(self.images()?.into_iter().filter(uses).collect())
    }

    /// Bytes of the image: its layers' tars uncompressed, and its big data.
    pub fn image_size(&self, lookup: &str) -> Result<u64, ImageError> {
        let image = self.require_image(lookup)?;
        let layers = self.layers.glance()?;
        let big_data: i64 = image.big_data_sizes.values().sum();
        let mut bytes = u64::try_from(big_data).unwrap_or(0);
        let mut current = image.layer.clone();
        let mut depth = 0;
        while !current.is_empty() && depth < 10_000 {
            let id = LayerId::parse(&current)?;
            let layer = match layers.get(&current) {
                Some(layer) => Arc::clone(layer),
                None => self
                    .foreign_layer(&id)?
                    .ok_or_else(|| ImageError::UnknownLayer {
                        image: image.id.clone(),
                        layer: current.clone(),
                    })?,
            };
            bytes += u64::try_from(layer.diff_size).unwrap_or(0);
            current.clone_from(&layer.parent);
            depth += 1;
        }
        Ok(bytes)
    }

    fn image_tables(&self) -> Result<Vec<Arc<Table<ImageRecord>>>, RecordsError> {
        let own = std::iter::once(&self.images);
        own.chain(self.foreign.iter().map(|foreign| &foreign.images))
            .map(|images| images.read())
            .collect()
    }
}

fn has_digest(image: &ImageRecord, digest: &str) -> bool {
    image.digests().any(|own| own == digest)
}

fn by_prefix(
    tables: &[Arc<Table<ImageRecord>>],
    lookup: &str,
) -> Result<Option<Arc<ImageRecord>>, ImageError> {
    if lookup.len() < MIN_PREFIX || !lookup.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut found: Option<&Arc<ImageRecord>> = None;
    for image in tables
        .iter()
        .flat_map(|table| table.iter())
        .filter(|image| image.id.starts_with(lookup))
    {
        if found.is_some_and(|other| other.id != image.id) {
            return Err(ImageError::Ambiguous {
                lookup: lookup.to_owned(),
            });
        }
        found = found.or(Some(image));
    }
    Ok(found.cloned())
}
