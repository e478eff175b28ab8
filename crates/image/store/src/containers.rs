//! Containers: a writable layer, a record, and two directories for their owner.

mod error;

pub use error::ContainerError;

use crate::driver::{LayerUse, RootMode};
use crate::layers::Trash;
use crate::record::{ContainerRecord, IdRange, LayerRecord, UnknownFields};
use crate::records::time;
use crate::store::{STABLE, VOLATILE};
use crate::{LayerId, MountIds, Store, Volatility};
use crioxide_names::ContainerId;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

/// A container to be made.
#[derive(Debug, Clone)]
pub struct NewContainer {
    /// Its id.
    pub id: ContainerId,
    /// Names, unique among containers. The first also names the layer, with `-layer` behind it.
    pub names: Vec<String>,
    /// Image id, or empty.
    pub image: String,
    /// What the writable layer lies on: the image's top layer; `None` for an empty root.
    pub parent_layer: Option<LayerId>,
    /// The owner's JSON.
    pub metadata: String,
    /// SELinux label of the processes; empty without SELinux.
    pub process_label: String,
    /// SELinux label of the files; empty without SELinux.
    pub mount_label: String,
    /// Options for mounting the layer.
    pub mount_options: Vec<String>,
    /// User ids of the container's user namespace; empty without one.
    pub uid_map: Vec<IdRange>,
    /// Group ids of the container's user namespace; empty without one.
    pub gid_map: Vec<IdRange>,
    /// A volatile container may be lost in a power cut; its records are not flushed.
    pub volatility: Volatility,
}

impl Store {
    /// Makes a container: writable layer, record and directories.
    ///
    /// Fails if the id or a name is taken. Nothing stays behind on failure.
    pub fn create_container(
        &self,
        new: NewContainer,
    ) -> Result<Arc<ContainerRecord>, ContainerError> {
        let staged = self.staging(LayerUse::Container).reserve()?;
        self.driver.prepare(staged.path(), LayerUse::Container)?;
        let layer_id = LayerId::generate();
        let id = new.id.as_str().to_owned();
        let file = if new.volatility == Volatility::Volatile {
            VOLATILE
        } else {
            STABLE
        };

        let mut layers = self.layers.write()?;
        let mut containers = self.containers.write()?;
        if containers.table().get(&id).is_some() {
            return Err(ContainerError::Exists { id });
        }
        for name in &new.names {
            if let Some(holder) = containers.table().by_name(name) {
                return Err(ContainerError::NameInUse {
                    name: name.clone(),
                    id: holder.id.clone(),
                });
            }
        }
        if let Some(parent) = &new.parent_layer
            && layers.table().get(parent.as_str()).is_none()
            && self.foreign_layer(parent)?.is_none()
        {
            return Err(ContainerError::UnknownParent {
                id,
                parent: parent.to_string(),
            });
        }
        let layer = layer_record(&layer_id, &new);
        if let Some(holder) = layer
            .names
            .first()
            .and_then(|name| layers.table().by_name(name))
        {
            return Err(ContainerError::NameInUse {
                name: layer.names[0].clone(),
                id: holder.id.clone(),
            });
        }
        self.driver
            .stack(staged.path(), new.parent_layer.as_ref(), RootMode::OfParent)?;
        if !new.mount_label.is_empty() {
            self.driver.label(staged.path(), &new.mount_label)?;
        }
        if !new.uid_map.is_empty() {
            let ids = MountIds {
                namespace: PathBuf::new(),
                uids: new.uid_map.clone(),
                gids: new.gid_map.clone(),
            };
            self.driver
                .own_root(staged.path(), new.parent_layer.as_ref(), &ids)?;
        }
        self.driver
            .install(staged.path(), &layer_id, LayerUse::Container)?;
        let recorded = self.make_container_directories(&id).and_then(|()| {
            layers.insert(layer, file)?;
            layers.save()?;
            containers.insert(container_record(new, &layer_id), file)?;
            Ok(containers.save()?)
        });
        if let Err(error) = recorded {
            layers.remove(layer_id.as_str());
            layers.save()?;
            let trash = self.discard_layer(&layer_id)?;
            drop((containers, layers));
            self.remove_later(trash);
            for root in [self.layout.containers(), self.layout.run_containers()] {
                // What stays is removed as garbage at the next start.
                let _ = std::fs::remove_dir_all(root.join(file_name(&id)?));
            }
            return Err(error);
        }
        let record = containers.table().get(&id).cloned();
        record.ok_or(ContainerError::Unknown { id })
    }

    /// Before the record: a container that is recorded has them.
    fn make_container_directories(&self, id: &str) -> Result<(), ContainerError> {
        for directory in [self.container_dir(id)?, self.container_run_dir(id)?] {
            let made = std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory);
            made.map_err(|source| ContainerError::Directory {
                action: "make directory",
                path: directory,
                source,
            })?;
        }
        Ok(())
    }

    /// All containers.
    pub fn containers(&self) -> Result<Vec<Arc<ContainerRecord>>, ContainerError> {
        Ok(self.containers.read()?.iter().cloned().collect())
    }

    /// The container with that id or name.
    pub fn container(&self, lookup: &str) -> Result<Option<Arc<ContainerRecord>>, ContainerError> {
        let containers = self.containers.read()?;
        Ok(containers
            .get(lookup)
            .or_else(|| containers.by_name(lookup))
            .cloned())
    }

    /// Replaces the owner's JSON of a container.
    pub fn set_container_metadata(&self, id: &str, metadata: &str) -> Result<(), ContainerError> {
        let mut containers = self.containers.write()?;
        let Some(record) = containers.table().get(id) else {
            return Err(ContainerError::Unknown { id: id.to_owned() });
        };
        let mut record = (**record).clone();
        metadata.clone_into(&mut record.metadata);
        containers.replace(record)?;
        Ok(containers.save()?)
    }

    /// Deletes a container with its layer and directories; the layer is unmounted first.
    pub fn delete_container(&self, id: &str) -> Result<(), ContainerError> {
        let mut layers = self.layers.write()?;
        let mut containers = self.containers.write()?;
        let Some(record) = containers.remove(id) else {
            return Err(ContainerError::Unknown { id: id.to_owned() });
        };
        containers.save()?;
        drop(containers);
        let mut trash = match layers.remove(&record.layer) {
            Some(layer) => {
                layers.save()?;
                self.discard_layer(&LayerId::parse(&layer.id)?)?
            }
            None => Trash::default(),
        };
        drop(layers);
        let away = self.file_staging.reserve()?;
        let directory = self.layout.containers().join(file_name(&record.id)?);
        let moved = std::fs::rename(directory, away.path());
        trash.add(away);
        self.remove_later(trash);
        let removed = std::fs::remove_dir_all(self.layout.run_containers().join(&record.id));
        for (result, root) in [
            (moved, self.layout.containers()),
            (removed, self.layout.run_containers()),
        ] {
            match result {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.map_err(|source| ContainerError::Directory {
                    action: "remove",
                    path: root.join(&record.id),
                    source,
                })?,
            }
        }
        Ok(())
    }

    /// The container's persistent directory, made with the container.
    pub fn container_dir(&self, id: &str) -> Result<PathBuf, ContainerError> {
        Ok(self
            .layout
            .containers()
            .join(file_name(id)?)
            .join("userdata"))
    }

    /// The container's directory that ends with a reboot, made with the container.
    pub fn container_run_dir(&self, id: &str) -> Result<PathBuf, ContainerError> {
        Ok(self
            .layout
            .run_containers()
            .join(file_name(id)?)
            .join("userdata"))
    }
}

fn layer_record(id: &LayerId, new: &NewContainer) -> LayerRecord {
    LayerRecord {
        id: id.to_string(),
        names: new
            .names
            .first()
            .map(|name| format!("{name}-layer"))
            .into_iter()
            .collect(),
        parent: new
            .parent_layer
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        mount_label: new.mount_label.clone(),
        created: time::now(),
        uid_map: new.uid_map.clone(),
        gid_map: new.gid_map.clone(),
        ..Default::default()
    }
}

fn container_record(new: NewContainer, layer: &LayerId) -> ContainerRecord {
    // Go writes the keys of a map sorted.
    let mut flags = UnknownFields::new();
    flags.insert("MountLabel".into(), new.mount_label.into());
    if !new.mount_options.is_empty() {
        flags.insert("MountOpts".into(), new.mount_options.into());
    }
    flags.insert("ProcessLabel".into(), new.process_label.into());
    if new.volatility == Volatility::Volatile {
        flags.insert("Volatile".into(), true.into());
    }
    ContainerRecord {
        id: new.id.as_str().to_owned(),
        names: new.names,
        image: new.image,
        layer: layer.to_string(),
        metadata: new.metadata,
        created: time::now(),
        uid_map: new.uid_map,
        gid_map: new.gid_map,
        flags,
        ..Default::default()
    }
}

/// Ids from outside become directory names: nothing that leads elsewhere passes.
fn file_name(id: &str) -> Result<&str, ContainerError> {
    if id.is_empty() || id == "." || id == ".." || id.contains(['/', '\0']) {
        return Err(ContainerError::BadId {
            id: id.chars().take(80).collect(),
        });
    }
    Ok(id)
}
