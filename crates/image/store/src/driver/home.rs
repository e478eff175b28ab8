//! The driver's home as a mount of its own, so that layers mounted in it do not spread to other mount namespaces.

use crate::driver::DriverError;
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Keeps the home private while something is mounted in it.
#[derive(Debug)]
pub(super) struct PrivateHome {
    path: PathBuf,
    changing: Mutex<()>,
}

impl PrivateHome {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            changing: Mutex::new(()),
        }
    }

    /// Binds the home onto itself unless it already is a mount, and makes that mount private.
    ///
    /// To be called before every mount: another program that shuts its store down takes the mount away.
    pub(super) fn ensure(&self) -> Result<(), DriverError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if is_mount_point(&self.path)? {
            return Ok(());
        }
        mount_bind(&self.path, &self.path).map_err(|error| {
            DriverError::io("bind the driver's home onto itself", &self.path, error)
        })?;
        mount_change(&self.path, MountPropagationFlags::PRIVATE)
            .map_err(|error| DriverError::io("make the mount private", &self.path, error))
    }

    /// Takes the bind mount away.
    pub(super) fn release(&self) -> Result<(), DriverError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_mount_point(&self.path)? {
            return Ok(());
        }
        unmount(&self.path, UnmountFlags::DETACH)
            .map_err(|error| DriverError::io("unmount", &self.path, error))
    }
}

/// Whether something is mounted at `path`; a path that is not there is no mount point.
pub(crate) fn is_mount_point(path: &Path) -> Result<bool, DriverError> {
    match statx(
        CWD,
        path,
        AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        StatxFlags::BASIC_STATS,
    ) {
        Ok(status) => Ok(status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(DriverError::io("look at", path, error)),
    }
}
