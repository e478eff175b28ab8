//! Making the container's file system the root.

use std::os::fd::{AsFd, OwnedFd};

use crioxide_sys::mount_attributes::{MountChange, Propagation, Reach};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_change, move_mount, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use crate::rootfs::mounts::source::RootPropagation;
use crate::setup_error::{SetupError, step};

/// How the root is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootSwitch {
    /// By `pivot_root`: nothing of the host's tree stays reachable.
    Pivot,
    /// By `chroot`, for hosts that run from their initial RAM disk, where `pivot_root` cannot work.
    Chroot,
}

/// Cuts the mount namespace off from the host's and attaches the container's root over `/` in it.
///
/// The namespace is a copy that nothing but this process sees, and everything the container gets from the host was
/// opened before; so nothing here needs the host's propagation, and the old root can later be detached without
/// unmounting anything on the host.
pub(crate) fn attach_root(tree: &OwnedFd) -> Result<(), SetupError> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .map_err(step("make all mounts private"))?;
    // A shared root could not be changed to, whatever its propagation is to be in the end.
    MountChange::new()
        .propagation(Propagation::Private)
        .apply(tree, Reach::Single)
        .map_err(step("make the root mount private"))?;
    move_mount(
        tree,
        "",
        rustix::fs::CWD,
        "/",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(step("attach the root mount"))
}

/// Changes to the attached root.
pub(crate) fn switch(tree: &OwnedFd, how: RootSwitch) -> Result<(), SetupError> {
    fchdir(tree.as_fd()).map_err(step("enter the root directory"))?;
    match how {
        RootSwitch::Pivot => {
            // The old root ends up over the new one, and is taken off there.
            pivot_root(".", ".").map_err(step("change to the root by pivot_root"))?;
            unmount(".", UnmountFlags::DETACH).map_err(step("detach the old root"))?;
        }
        RootSwitch::Chroot => chroot(".").map_err(step("change to the root by chroot"))?,
    }
    chdir("/").map_err(step("enter the new root"))
}

/// Gives the root its final propagation and, if asked, makes it read-only.
pub(crate) fn finish(
    tree: &OwnedFd,
    propagation: RootPropagation,
    read_only: bool,
) -> Result<(), SetupError> {
    let propagation = match propagation {
        RootPropagation::Shared => Some(Propagation::Shared),
        RootPropagation::Unbindable => Some(Propagation::Unbindable),
        RootPropagation::Slave | RootPropagation::Private => None,
    };
    if let Some(propagation) = propagation {
        MountChange::new()
            .propagation(propagation)
            .apply(tree, Reach::Single)
            .map_err(step("set the propagation of the root"))?;
    }
    if read_only {
        let read_only = rustix::mount::MountAttrFlags::MOUNT_ATTR_RDONLY;
        MountChange::new()
            .attributes(read_only, rustix::mount::MountAttrFlags::empty())
            .apply(tree, Reach::Single)
            .map_err(step("make the root read-only"))?;
    }
    Ok(())
}
