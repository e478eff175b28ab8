//! Deleting layers: the record goes first, then the content is moved away, and removed when no lock is held any more.

use super::LayerError;
use crate::driver::LayerUse;
use crate::record::{ContainerRecord, ImageRecord, LayerRecord};
use crate::records::{Table, Transaction};
use crate::staging::{Staged, StagingError, move_file, remove_tree};
use crate::{LayerId, Store};
use std::io::ErrorKind;
use std::sync::Arc;

/// Content without a record, on its way to the reaper. Dropping it removes it at once.
#[derive(Debug, Default)]
#[must_use = "dropping it removes the content at once, perhaps under a lock"]
pub(crate) struct Trash(Vec<Staged>);

impl Store {
    /// Deletes a layer that nothing uses; it is unmounted first.
    pub fn delete_layer(&self, id: &LayerId) -> Result<(), LayerError> {
        let mut layers = self.layers.write()?;
        if layers.table().get(id.as_str()).is_none() {
            return Err(LayerError::Unknown { id: id.to_string() });
        }
        let images = self.images.read()?;
        let containers = self.containers.read()?;
        if let Some(user) = user_of(id.as_str(), layers.table(), &images, &containers) {
            return Err(LayerError::InUse {
                id: id.to_string(),
                user,
            });
        }
        layers.remove(id.as_str());
        layers.save()?;
        let trash = self.discard_layer(id)?;
        drop(layers);
        self.remove_later(trash);
        Ok(())
    }

    /// Deletes `top` and the layers below it, as far down as nothing else uses them.
    pub(crate) fn delete_chain(
        &self,
        layers: &mut Transaction<'_, LayerRecord>,
        top: &str,
        images: &Table<ImageRecord>,
        containers: &Table<ContainerRecord>,
    ) -> Result<Trash, LayerError> {
        let mut doomed = Vec::new();
        let mut current = top.to_owned();
        while !current.is_empty() && user_of(&current, layers.table(), images, containers).is_none()
        {
            let Some(removed) = layers.remove(&current) else {
                break;
            };
            doomed.push(LayerId::parse(&current)?);
            current.clone_from(&removed.parent);
        }
        layers.save()?;
        let mut trash = Trash::default();
        for id in &doomed {
            trash.absorb(self.discard_layer(id)?);
        }
        Ok(trash)
    }

    /// Deletes layers that have lost their container or image: their process ended between the two records. Returns their
    /// ids.
    ///
    /// Layers of images have no names; those of other programs may belong to a pull under way. Whoever makes a container
    /// holds the lock on layers until both are recorded.
    pub(crate) fn delete_orphaned_layers(&self) -> Result<Vec<String>, LayerError> {
        let mut layers = self.layers.write()?;
        let images = self.images.read()?;
        let containers = self.containers.read()?;
        let is_orphan = |layer: &&Arc<LayerRecord>, layers: &Table<LayerRecord>| {
            let of_container = layer.names.iter().any(|name| name.ends_with("-layer"));
            let of_the_dead = |owner| !self.staging(LayerUse::Image).is_alive(owner);
            (of_container || layer.owner().is_some_and(of_the_dead))
                && user_of(&layer.id, layers, &images, &containers).is_none()
        };
        let mut deleted = Vec::new();
        let mut trash = Trash::default();
        // One may have been what keeps the one below.
        while let Some(layer) = {
            let table = layers.table();
            table.iter().find(|layer| is_orphan(layer, table)).cloned()
        } {
            tracing::info!(
                layer = layer.id,
                "removing a layer without image or container"
            );
            layers.remove(&layer.id);
            layers.save()?;
            trash.absorb(self.discard_layer(&LayerId::parse(&layer.id)?)?);
            deleted.push(layer.id.clone());
        }
        drop(layers);
        self.remove_later(trash);
        Ok(deleted)
    }

    /// Moves away all files of a layer whose record is gone.
    pub(crate) fn discard_layer(&self, id: &LayerId) -> Result<Trash, LayerError> {
        self.unmount_deleted(id)?;
        let mut trash = Trash::default();
        let staging = self.staging(LayerUse::Container);
        let content = staging.reserve()?;
        self.driver.discard(id, content.path())?;
        trash.0.push(content);
        for path in [self.layout.tar_split(id), self.layout.layer_big_data(id)] {
            let away = self.file_staging.reserve()?;
            match move_file(&path, away.path()) {
                Err(StagingError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
                Err(StagingError::Io { source, .. })
                    if source.kind() == ErrorKind::CrossesDevices =>
                {
                    remove_tree(&path)?
                }
                other => other?,
            }
            trash.0.push(away);
        }
        Ok(trash)
    }

    /// Removes the content without making the caller wait.
    pub(crate) fn remove_later(&self, trash: Trash) {
        self.reaper.remove(trash.0);
    }

    /// Removes layers that were being made or deleted when their process ended.
    pub(crate) fn delete_incomplete_layers(&self) -> Result<(), LayerError> {
        if !self
            .layers
            .read()?
            .iter()
            .any(|layer| layer.is_incomplete())
        {
            return Ok(());
        }
        let mut layers = self.layers.write()?;
        let mut trash = Trash::default();
        let incomplete: Vec<_> = layers
            .table()
            .iter()
            .filter(|layer| layer.is_incomplete())
            .cloned()
            .collect();
        for layer in incomplete {
            tracing::warn!(layer = layer.id, "removing a layer that was never finished");
            layers.remove(&layer.id);
            layers.save()?;
            trash.absorb(self.discard_layer(&LayerId::parse(&layer.id)?)?);
        }
        drop(layers);
        self.remove_later(trash);
        Ok(())
    }
}

impl Trash {
    pub(crate) fn add(&mut self, staged: Staged) {
        self.0.push(staged);
    }

    pub(crate) fn absorb(&mut self, mut other: Trash) {
        self.0.append(&mut other.0);
    }
}

/// Who needs the layer: a layer on top of it, an image or a container.
fn user_of(
    id: &str,
    layers: &Table<LayerRecord>,
    images: &Table<ImageRecord>,
    containers: &Table<ContainerRecord>,
) -> Option<String> {
    let child = layers
        .iter()
        .find(|layer| layer.parent == id)
        .map(|layer| format!("layer {}", layer.id));
    let image = || {
        images
            .iter()
            .find(|image| image.top_layers().any(|top| top == id))
    };
    let container = || containers.iter().find(|container| container.layer == id);
    child
        .or_else(|| image().map(|image| format!("image {}", image.id)))
        .or_else(|| container().map(|container| format!("container {}", container.id)))
}
