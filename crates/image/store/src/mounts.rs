//! Mounting layers, with a count of users that all processes share.

use crate::driver::DriverError;
use crate::driver::home::is_mount_point;
use crate::layers::id::ParseLayerIdError;
use crate::record::MountRecord;
use crate::records::RecordsError;
use crate::store::STABLE;
use crate::{IdRange, ImageError, LayerError, LayerId, Store};
use crioxide_files::{Hold, RecordLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether what is mounted may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountAccess {
    /// Changes go to the layer itself.
    #[default]
    ReadWrite,
    /// Nothing can be changed.
    ReadOnly,
}

/// Whether the content must survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Volatility {
    /// Flushed as any file system.
    #[default]
    Durable,
    /// Never flushed, not even by the container's own `fsync`; for layers that are thrown away after a reboot.
    Volatile,
}

/// How to mount a layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountOptions {
    /// SELinux label of all files; empty without SELinux.
    pub mount_label: String,
    /// Read-only or not.
    pub access: MountAccess,
    /// Durable or not.
    pub volatility: Volatility,
    /// Options in addition to the driver's, such as `nodev`.
    pub options: Vec<String>,
    /// Owners as a user namespace sees them.
    pub ids: Option<MountIds>,
}

/// The user namespace of a container, and its mappings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountIds {
    /// Its file.
    pub namespace: PathBuf,
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

impl MountIds {
    /// The host's number for a user of the namespace.
    pub(crate) fn uid(&self, inside: u32) -> Option<u32> {
        to_host(&self.uids, inside)
    }

    /// The host's number for a group of the namespace.
    pub(crate) fn gid(&self, inside: u32) -> Option<u32> {
        to_host(&self.gids, inside)
    }
}

fn to_host(ranges: &[IdRange], inside: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let offset = inside.checked_sub(range.container_id)?;
        (offset < range.size).then(|| range.host_id.checked_add(offset))?
    })
}

/// A layer could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The records could not be read or written.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The store's lock could not be taken.
    #[error(transparent)]
    Lock(#[from] RecordLockError),
    /// The driver failed.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The layer could not be looked up.
    #[error(transparent)]
    Layer(#[from] Box<LayerError>),
    /// The image could not be looked up.
    #[error(transparent)]
    Image(#[from] Box<ImageError>),
    /// A record holds an id that cannot be one.
    #[error(transparent)]
    Id(#[from] ParseLayerIdError),
    /// There is no such layer.
    #[error("mount layer {id}: it does not exist")]
    Unknown {
        /// The id.
        id: String,
    },
    /// The image has no layer to mount.
    #[error("mount image {id}: it has no layers")]
    NoLayers {
        /// The image.
        id: String,
    },
    /// Layers are still in use.
    #[error("layers are still mounted: {}", ids.join(", "))]
    StillMounted {
        /// Their ids.
        ids: Vec<String>,
    },
    /// A container is being made in a mounted layer.
    #[error("{holds} mounted layers are held for containers in the making")]
    Held {
        /// How many.
        holds: usize,
    },
}

/// Who gives up a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnmountForce {
    /// One user: the mount stays while there are others.
    One,
    /// All users at once.
    All,
}

/// Keeps the path of a mount as it is.
#[derive(Debug)]
pub struct MountHold {
    holds: Arc<AtomicUsize>,
    _lock: Hold,
}

impl MountHold {
    fn new(holds: &Arc<AtomicUsize>, lock: Hold) -> Self {
        holds.fetch_add(1, Ordering::AcqRel);
        Self {
            holds: Arc::clone(holds),
            _lock: lock,
        }
    }
}

impl Drop for MountHold {
    fn drop(&mut self) {
        self.holds.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Store {
    /// Mounts a layer, or counts one more user of its mount, and returns where it is.
    pub fn mount(&self, id: &LayerId, options: &MountOptions) -> Result<PathBuf, MountError> {
        let _graph = self.graph_lock.read()?;
        let own = |layers: std::sync::Arc<crate::records::Table<crate::LayerRecord>>| {
            if layers.get(id.as_str()).is_none() && self.foreign_layer(id)?.is_none() {
                return Err(MountError::Unknown { id: id.to_string() });
            }
            self.mount_counted(id, options)
        };
        // The layer cannot be deleted while its record is locked.
        self.layers.read_while(own)
    }

    /// As [`Self::mount`]; and for as long as the second result lives, no other process takes the driver's home away.
    ///
    /// Old versions of podman, buildah and skopeo do not know volatile layers, and so find nothing mounted when they end: they
    /// unmount the home, and what is mounted in it vanishes from its path. Whoever needs the path keeps them waiting.
    pub fn mount_and_hold(
        &self,
        id: &LayerId,
        options: &MountOptions,
    ) -> Result<(PathBuf, MountHold), MountError> {
        let hold = MountHold::new(&self.holds, self.graph_lock.hold()?);
        Ok((self.mount(id, options)?, hold))
    }

    /// Mounts the top layer of an image read-only.
    pub fn mount_image(&self, lookup: &str, options: &MountOptions) -> Result<PathBuf, MountError> {
        let image = self.require_image(lookup).map_err(Box::new)?;
        if image.layer.is_empty() {
            return Err(MountError::NoLayers {
                id: image.id.clone(),
            });
        }
        let options = MountOptions {
            access: MountAccess::ReadOnly,
            ..options.clone()
        };
        self.mount(&LayerId::parse(&image.layer)?, &options)
    }

    /// Mounts the top layer of an image read-only at `target`: a mount of the caller's own, which it unmounts itself.
    ///
    /// Nothing counts it, so the caller also sees to it that the image stays until then.
    pub fn mount_image_at(
        &self,
        lookup: &str,
        target: &Path,
        options: &MountOptions,
    ) -> Result<(), MountError> {
        let image = self.require_image(lookup).map_err(Box::new)?;
        if image.layer.is_empty() {
            return Err(MountError::NoLayers {
                id: image.id.clone(),
            });
        }
        let id = LayerId::parse(&image.layer)?;
        let options = MountOptions {
            access: MountAccess::ReadOnly,
            ..options.clone()
        };
        let _graph = self.graph_lock.read()?;
        let own = |layers: std::sync::Arc<crate::records::Table<crate::LayerRecord>>| {
            if layers.get(id.as_str()).is_none() && self.foreign_layer(&id)?.is_none() {
                return Err(MountError::Unknown { id: id.to_string() });
            }
            Ok(self.driver.mount_at(&id, target, &options)?)
        };
        self.layers.read_while(own)
    }

    /// Gives up a mount. `false` when other users keep it; a layer that is not mounted is no error.
    pub fn unmount(&self, id: &LayerId, force: UnmountForce) -> Result<bool, MountError> {
        let _graph = self.graph_lock.read()?;
        self.unmount_counted(id, force)
    }

    /// Where the layer is mounted, if it is.
    pub fn mounted_at(&self, id: &LayerId) -> Result<Option<PathBuf>, MountError> {
        let mounts = self.mounts.read()?;
        let Some(record) = mounts.get(id.as_str()) else {
            return Ok(None);
        };
        let path = PathBuf::from(&record.path);
        Ok(is_mount_point(&path)?.then_some(path))
    }

    /// Unmounts what is mounted, the driver's home at last. Without [`UnmountForce::All`] mounted layers are an error.
    pub fn shut_down(&self, force: UnmountForce) -> Result<(), MountError> {
        // Whoever holds a mount goes on to use the store, which must not wait for us while we wait for the hold.
        let holds = self.holds.load(Ordering::Acquire);
        if force == UnmountForce::One && holds > 0 {
            return Err(MountError::Held { holds });
        }
        let graph = self.graph_lock.write()?;
        let mounted: Vec<String> = self
            .mounts
            .read()?
            .iter()
            .map(|record| record.id.clone())
            .collect();
        if force == UnmountForce::One && !mounted.is_empty() {
            return Err(MountError::StillMounted { ids: mounted });
        }
        for id in &mounted {
            self.unmount_counted(&LayerId::parse(id)?, UnmountForce::All)?;
        }
        self.driver.shut_down()?;
        graph.touch()?;
        Ok(())
    }

    /// Unmounts a layer whose record is gone.
    pub(crate) fn unmount_deleted(&self, id: &LayerId) -> Result<(), LayerError> {
        match self.unmount_counted(id, UnmountForce::All) {
            Ok(_) => Ok(()),
            Err(MountError::Records(error)) => Err(error.into()),
            Err(MountError::Driver(error)) => Err(error.into()),
            Err(MountError::Lock(error)) => Err(RecordsError::from(error).into()),
            // The remaining kinds come from looking up layers and images, which this does not do.
            Err(other) => Err(DriverError::io(
                "unmount",
                self.driver.mount_path(id),
                std::io::Error::other(other),
            )
            .into()),
        }
    }

    fn mount_counted(&self, id: &LayerId, options: &MountOptions) -> Result<PathBuf, MountError> {
        let mut mounts = self.mounts.write()?;
        if let Some(record) = mounts
            .table()
            .get(id.as_str())
            .filter(|record| record.count > 0)
        {
            let mut record = (**record).clone();
            if is_mount_point(Path::new(&record.path))? {
                record.count += 1;
                let path = PathBuf::from(&record.path);
                mounts.replace(record)?;
                mounts.save()?;
                return Ok(path);
            }
            mounts.remove(id.as_str());
        }
        self.driver.mount(id, options)?;
        let path = self.driver.mount_path(id);
        let record = MountRecord {
            id: id.to_string(),
            path: path.to_string_lossy().into_owned(),
            count: 1,
            unknown: Default::default(),
        };
        let recorded = mounts.insert(record, STABLE).and_then(|()| mounts.save());
        if let Err(error) = recorded {
            // A mount that nobody counts would never be given back.
            self.driver.unmount(id)?;
            return Err(error.into());
        }
        Ok(path)
    }

    fn unmount_counted(&self, id: &LayerId, force: UnmountForce) -> Result<bool, MountError> {
        // Most deleted layers are not mounted: find out without keeping others from mounting.
        if self.mounts.read()?.get(id.as_str()).is_none() {
            let path = self.driver.mount_path(id);
            if !is_mount_point(&path)? {
                return Ok(true);
            }
        }
        let mut mounts = self.mounts.write()?;
        if let Some(record) = mounts.table().get(id.as_str())
            && force == UnmountForce::One
            && record.count > 1
        {
            let mut record = (**record).clone();
            record.count -= 1;
            mounts.replace(record)?;
            mounts.save()?;
            return Ok(false);
        }
        self.driver.unmount(id)?;
        mounts.remove(id.as_str());
        mounts.save()?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_by_their_range() {
        let ranges =
            [(0, 65536, 100), (1000, u32::MAX - 1, 10)].map(|(container_id, host_id, size)| {
                IdRange {
                    container_id,
                    host_id,
                    size,
                }
            });
        assert_eq!(to_host(&ranges, 0), Some(65536));
        assert_eq!(to_host(&ranges, 99), Some(65635));
        assert_eq!(to_host(&ranges, 100), None);
        assert_eq!(to_host(&ranges, 1001), Some(u32::MAX));
        assert_eq!(to_host(&ranges, 1002), None);
    }
}
