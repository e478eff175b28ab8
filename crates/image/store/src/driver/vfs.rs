//! The vfs driver: each layer is a whole file tree of its own, `dir/<id>`, that starts as a copy of the one below.
//!
//! It works on every file system and needs no kernel feature, at the price of a copy per layer (shared extents where the
//! file system can).

use super::tree::{self, ADDED, Homes, WHOLE, copy_tree, make_dir, merge};
use super::{Driver, DriverError, LayerUse, RootMode};
use crate::{LayerId, MountIds, MountOptions};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Below a home: all layers.
const LAYERS: &str = "dir";

/// Trees below one or two homes.
#[derive(Debug)]
pub(crate) struct Vfs(Homes);

impl Vfs {
    /// Makes the homes if they are not there.
    pub(crate) fn open(
        home: PathBuf,
        image_home: PathBuf,
        foreign: Vec<PathBuf>,
    ) -> Result<Self, DriverError> {
        let homes = Homes {
            home,
            image_home,
            foreign,
            folder: LAYERS,
        };
        homes.make()?;
        Ok(Self(homes))
    }
}

impl Driver for Vfs {
    fn prepare(&self, staged: &Path, _layer_use: LayerUse) -> Result<(), DriverError> {
        make_dir(staged, 0o700)?;
        make_dir(&staged.join(ADDED), 0o555)
    }

    fn stack(
        &self,
        staged: &Path,
        parent: Option<&LayerId>,
        root: RootMode,
    ) -> Result<(), DriverError> {
        let (added, whole) = (staged.join(ADDED), staged.join(WHOLE));
        make_dir(&whole, 0o700)?;
        let fail = |action| {
            let whole = whole.clone();
            move |error: io::Error| DriverError::io(action, whole, error)
        };
        if let Some(parent) = parent {
            let below = self.content(parent)?;
            copy_tree(&below, &whole).map_err(fail("copy the layer below to"))?;
        }
        // Without a layer below there is nobody else to take the root's metadata from.
        let take_root = root == RootMode::Own || parent.is_none();
        merge(&added, &whole, take_root).map_err(fail("apply the layer's changes to"))?;
        fs::remove_dir_all(&added).map_err(|error| DriverError::io("remove", added, error))
    }

    fn own_root(
        &self,
        _staged: &Path,
        _parent: Option<&LayerId>,
        _ids: &MountIds,
    ) -> Result<(), DriverError> {
        // The whole tree is mounted with mapped ids, its root included.
        Ok(())
    }

    fn label(&self, staged: &Path, label: &str) -> Result<(), DriverError> {
        let whole = staged.join(WHOLE);
        tree::label(&whole, label).map_err(|error| DriverError::io("label", whole, error))
    }

    fn staged_content(&self, staged: &Path) -> PathBuf {
        staged.join(ADDED)
    }

    fn staging_home(&self, layer_use: LayerUse) -> PathBuf {
        self.0.staging(layer_use)
    }

    fn install(&self, staged: &Path, id: &LayerId, layer_use: LayerUse) -> Result<(), DriverError> {
        self.0.install(staged, id, layer_use)
    }

    fn flush(&self, _installed: &[LayerId]) -> Result<(), DriverError> {
        self.0.flush()
    }

    fn discard(&self, id: &LayerId, trash: &Path) -> Result<(), DriverError> {
        self.0.discard(id, trash)
    }

    fn content(&self, id: &LayerId) -> Result<PathBuf, DriverError> {
        self.0.content(id)
    }

    fn mount_path(&self, id: &LayerId) -> PathBuf {
        self.0.mount_path(id)
    }

    fn mount(&self, id: &LayerId, options: &MountOptions) -> Result<(), DriverError> {
        self.mount_at(id, &self.mount_path(id), options)
    }

    fn mount_at(
        &self,
        id: &LayerId,
        target: &Path,
        options: &MountOptions,
    ) -> Result<(), DriverError> {
        self.0.mount_at(id, target, options)
    }

    fn unmount(&self, id: &LayerId) -> Result<(), DriverError> {
        self.0.unmount(id)
    }

    fn list(&self) -> Result<Vec<LayerId>, DriverError> {
        self.0.list()
    }

    fn remove_strays(&self) -> Result<(), DriverError> {
        Ok(())
    }

    fn examine(&self, id: &LayerId) -> Vec<String> {
        self.0.examine(id)
    }

    fn shut_down(&self) -> Result<(), DriverError> {
        Ok(())
    }
}
