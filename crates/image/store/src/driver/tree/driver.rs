//! What all drivers of whole trees do alike.

use super::{ADDED, Homes, WHOLE, label};
use crate::driver::{Driver, DriverError, LayerContent, LayerUse, RootMode};
use crate::{LayerId, MountIds, MountOptions};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// A way of making whole trees. All else is up to its homes.
pub(in crate::driver) trait TreeDriver: Debug + Send + Sync {
    /// Where its trees are.
    fn homes(&self) -> &Homes;

    /// See [`Driver::prepare`].
    fn prepare(&self, staged: &Path, layer_use: LayerUse) -> Result<(), DriverError>;

    /// See [`Driver::stack`].
    fn stack(
        &self,
        staged: &Path,
        parent: Option<&LayerId>,
        root: RootMode,
    ) -> Result<(), DriverError>;

    /// Called with the tree of a container before it becomes layer `id`.
    fn limit(&self, _whole: &Path, _id: &LayerId) -> Result<(), DriverError> {
        Ok(())
    }

    /// Called before layer `id` goes.
    fn forget_limit(&self, _id: &LayerId) -> Result<(), DriverError> {
        Ok(())
    }

    /// Called before every mount.
    fn before_mount(&self) -> Result<(), DriverError> {
        Ok(())
    }

    /// See [`Driver::remove_strays`].
    fn remove_strays(&self) -> Result<(), DriverError> {
        Ok(())
    }

    /// See [`Driver::shut_down`].
    fn shut_down(&self) -> Result<(), DriverError> {
        Ok(())
    }
}

impl<D: TreeDriver> Driver for D {
    fn prepare(&self, staged: &Path, layer_use: LayerUse) -> Result<(), DriverError> {
        TreeDriver::prepare(self, staged, layer_use)
    }

    fn stack(
        &self,
        staged: &Path,
        parent: Option<&LayerId>,
        root: RootMode,
    ) -> Result<(), DriverError> {
        TreeDriver::stack(self, staged, parent, root)
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

    fn label(&self, staged: &Path, text: &str) -> Result<(), DriverError> {
        let whole = staged.join(WHOLE);
        label(&whole, text).map_err(|error| DriverError::io("label", whole, error))
    }

    fn staged_content(&self, staged: &Path) -> PathBuf {
        staged.join(ADDED)
    }

    fn staging_home(&self, layer_use: LayerUse) -> PathBuf {
        self.homes().staging(layer_use)
    }

    fn install(&self, staged: &Path, id: &LayerId, layer_use: LayerUse) -> Result<(), DriverError> {
        if layer_use == LayerUse::Container {
            self.limit(&staged.join(WHOLE), id)?;
        }
        self.homes().install(staged, id, layer_use)
    }

    fn flush(&self, _installed: &[LayerId]) -> Result<(), DriverError> {
        self.homes().flush()
    }

    fn discard(&self, id: &LayerId, trash: &Path) -> Result<(), DriverError> {
        self.forget_limit(id)?;
        self.homes().discard(id, trash)
    }

    fn content(&self, id: &LayerId) -> Result<LayerContent, DriverError> {
        self.homes().content(id).map(LayerContent::at)
    }

    fn mount_path(&self, id: &LayerId) -> PathBuf {
        self.homes().mount_path(id)
    }

    fn mount_at(
        &self,
        id: &LayerId,
        target: &Path,
        options: &MountOptions,
    ) -> Result<(), DriverError> {
        self.before_mount()?;
        self.homes().mount_at(id, target, options)
    }

    fn unmount(&self, id: &LayerId) -> Result<(), DriverError> {
        self.homes().unmount(id)
    }

    fn list(&self) -> Result<Vec<LayerId>, DriverError> {
        self.homes().list()
    }

    fn remove_strays(&self) -> Result<(), DriverError> {
        TreeDriver::remove_strays(self)
    }

    fn examine(&self, id: &LayerId) -> Vec<String> {
        self.homes().examine(id)
    }

    fn shut_down(&self) -> Result<(), DriverError> {
        TreeDriver::shut_down(self)
    }
}
