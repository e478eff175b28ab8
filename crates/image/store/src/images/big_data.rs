//! Configs, manifests and signatures of images.

use super::ImageError;
use crate::Store;
use crate::record::ImageRecord;
use crate::record::big_data::{big_data_file_name, digest_of};
use crate::store::layout::Layout;
use crioxide_files::{AtomicOptions, Sync, atomic_write, read_limited};
use crioxide_names::Digest;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Configs and manifests are far smaller; this bounds what a damaged store can make us read.
const MAX_ITEM: u64 = 64 << 20;

/// A named blob of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BigData {
    /// `manifest`, `manifest-<digest>`, the config's digest, `signatures`, ...
    pub key: String,
    /// The content.
    pub bytes: Vec<u8>,
    /// The digest to record when it is not the SHA-256 of the bytes: that of a schema 1 manifest without its signatures.
    pub digest: Option<Digest>,
}

impl BigData {
    /// A blob recorded with the SHA-256 of its bytes.
    pub fn new(key: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.into(),
            bytes: bytes.into(),
            digest: None,
        }
    }
}

impl Store {
    /// Reads a blob of the image with exactly that id.
    pub fn image_big_data(&self, id: &str, key: &str) -> Result<Vec<u8>, ImageError> {
        let (image, layout) = self.image_and_home(id)?;
        if !image.big_data_names.iter().any(|name| name == key) {
            return Err(ImageError::NoBigData {
                image: id.to_owned(),
                key: key.to_owned(),
            });
        }
        let path = path(&layout.images().join(&image.id), id, key)?;
        read_limited(&path, MAX_ITEM).map_err(|error| ImageError::BigData {
            action: "read",
            path,
            source: Box::new(error),
        })
    }

    /// Adds a blob to an image, or replaces the one with that key.
    pub fn set_image_big_data(&self, id: &str, item: &BigData) -> Result<(), ImageError> {
        let mut images = self.images.write()?;
        let Some(image) = images.table().get(id) else {
            return Err(ImageError::Unknown {
                lookup: id.to_owned(),
            });
        };
        let mut image = (**image).clone();
        write(&self.layout.images().join(&image.id), item)?;
        record(&mut image, item);
        images.replace(image)?;
        Ok(images.save()?)
    }

    fn image_and_home(
        &self,
        id: &str,
    ) -> Result<(std::sync::Arc<ImageRecord>, &Layout), ImageError> {
        if let Some(image) = self.images.glance()?.get(id) {
            return Ok((image.clone(), &self.layout));
        }
        for foreign in &self.foreign {
            if let Some(image) = foreign.images.glance()?.get(id) {
                return Ok((image.clone(), &foreign.layout));
            }
        }
        Err(ImageError::Unknown {
            lookup: id.to_owned(),
        })
    }
}

/// Writes the blob's file, durably.
pub(super) fn write(directory: &Path, item: &BigData) -> Result<(), ImageError> {
    let image = directory.file_name().unwrap_or_default().to_string_lossy();
    let path = path(directory, &image, &item.key)?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| ImageError::BigData {
            action: "make directory",
            path: directory.to_owned(),
            source: Box::new(error),
        })?;
    let options = AtomicOptions {
        mode: 0o600,
        sync: Sync::Data,
    };
    atomic_write(&path, &item.bytes, options).map_err(|error| ImageError::BigData {
        action: "write",
        path,
        source: Box::new(error),
    })
}

/// Lists the blob in the record.
pub(super) fn record(image: &mut ImageRecord, item: &BigData) {
    let digest = item
        .digest
        .clone()
        .unwrap_or_else(|| digest_of(&item.bytes))
        .to_string();
    if item.key == "manifest" {
        image.digest.clone_from(&digest);
    }
    if !image.big_data_names.contains(&item.key) {
        image.big_data_names.push(item.key.clone());
    }
    let size = i64::try_from(item.bytes.len()).unwrap_or(i64::MAX);
    image.big_data_sizes.insert(item.key.clone(), size);
    image.big_data_digests.insert(item.key.clone(), digest);
}

fn path(directory: &Path, image: &str, key: &str) -> Result<PathBuf, ImageError> {
    let name = big_data_file_name(key).ok_or_else(|| ImageError::BadKey {
        image: image.to_owned(),
        key: key.to_owned(),
    })?;
    Ok(directory.join(name))
}
