//! Deleting images, and the layers that nothing else needs.

use super::ImageError;
use crate::layers::Trash;
use crate::staging::{Staged, remove_tree};
use crate::{LayerError, Store};
use std::path::Path;

impl Store {
    /// Deletes the image with exactly that id and those of its layers that nothing else uses.
    pub fn delete_image(&self, id: &str) -> Result<(), ImageError> {
        let mut layers = self.layers.write()?;
        let mut images = self.images.write()?;
        let containers = self.containers.read()?;
        if let Some(container) = containers.iter().find(|container| container.image == id) {
            return Err(ImageError::InUse {
                image: id.to_owned(),
                container: container.id.clone(),
            });
        }
        let Some(image) = images.remove(id) else {
            for foreign in &self.foreign {
                if foreign.images.read()?.get(id).is_some() {
                    return Err(ImageError::ReadOnly {
                        image: id.to_owned(),
                    });
                }
            }
            return Err(ImageError::Unknown {
                lookup: id.to_owned(),
            });
        };
        images.save()?;
        let mut trash = Trash::default();
        for top in image.top_layers() {
            trash.absorb(self.delete_chain(&mut layers, top, images.table(), &containers)?);
        }
        drop(images);
        drop(layers);
        // The record is gone, so nobody looks into the directory any more.
        let directory = self.layout.images().join(&image.id);
        let away = self.file_staging.reserve().map_err(LayerError::from)?;
        move_or_remove(&directory, &away)?;
        trash.add(away);
        self.remove_later(trash);
        Ok(())
    }
}

/// The image store may be on another file system, to which nothing can be renamed.
fn move_or_remove(directory: &Path, away: &Staged) -> Result<(), LayerError> {
    match std::fs::rename(directory, away.path()) {
        Ok(()) => Ok(()),
        Err(_) => Ok(remove_tree(directory)?),
    }
}
