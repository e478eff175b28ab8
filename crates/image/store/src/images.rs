//! Finding, adding, naming and deleting images.

mod big_data;
mod delete;
mod error;
mod lookup;
mod names;

pub use big_data::BigData;
pub use error::ImageError;

use crate::record::ImageRecord;
use crate::records::time;
use crate::store::STABLE;
use crate::{LayerId, Store};
use crioxide_names::ImageId;
use std::sync::Arc;

/// An image to be recorded. Its layers must be in the store.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Id, normally the hex digest of the config blob.
    pub id: ImageId,
    /// Full references, such as `quay.io/x/y:tag`.
    pub names: Vec<String>,
    /// Top layer; `None` for an image without layers.
    pub layer: Option<LayerId>,
    /// JSON of the image library, `{}` when there is nothing to say.
    pub metadata: String,
    /// The config's `created`; without one, or with one that is no RFC 3339 time, the time now is taken.
    pub created: Option<String>,
    /// Config and manifests, in the order in which they are to be listed.
    pub big_data: Vec<BigData>,
}

impl Store {
    /// Records an image, its big data and its names in one step.
    ///
    /// An existing image with the same id and top layer is updated: its big data and metadata are replaced, the names
    /// added. Names are taken from all other images. With another top layer it is an error.
    pub fn create_image(&self, new: NewImage) -> Result<Arc<ImageRecord>, ImageError> {
        let id = new.id.as_str().to_owned();
        let layer = new.layer.map(|layer| layer.to_string()).unwrap_or_default();
        // The layer must not vanish between the check and the record.
        self.layers.read_while(|layers| {
            if !layer.is_empty()
                && layers.get(&layer).is_none()
                && self.foreign_layer(&LayerId::parse(&layer)?)?.is_none()
            {
                return Err(ImageError::UnknownLayer {
                    image: id.clone(),
                    layer: layer.clone(),
                });
            }
            let mut images = self.images.write()?;
            let existing = images.table().get(&id).map(|image| (**image).clone());
            let is_new = existing.is_none();
            let mut record = existing.unwrap_or_else(|| ImageRecord {
                id: id.clone(),
                layer: layer.clone(),
                created: new
                    .created
                    .as_deref()
                    .map_or_else(time::now, time::normalize_or_now),
                ..Default::default()
            });
            if record.layer != layer {
                return Err(ImageError::OtherLayer {
                    image: id.clone(),
                    existing: record.layer,
                    new: layer.clone(),
                });
            }
            record.metadata.clone_from(&new.metadata);
            let directory = self.layout.images().join(&id);
            for item in &new.big_data {
                let written = big_data::write(&directory, item);
                if let Err(error) = written {
                    if is_new {
                        let _ = std::fs::remove_dir_all(&directory);
                    }
                    return Err(error);
                }
                big_data::record(&mut record, item);
            }
            names::add(&mut record, &new.names);
            if is_new {
                images.insert(record, STABLE)?;
            } else {
                images.replace(record)?;
            }
            images.save()?;
            images
                .table()
                .get(&id)
                .cloned()
                .ok_or(ImageError::Unknown { lookup: id.clone() })
        })
    }
}
