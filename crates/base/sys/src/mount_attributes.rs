//! `mount_setattr`: attributes, id mapping and propagation of mounts by descriptor.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::mount::MountAttrFlags;

use crate::syscall::checked;

/// Which mounts [`MountChange::apply`] changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The one mount of the descriptor.
    Single,
    /// It and everything mounted below it.
    Recursive,
}

/// Propagation type of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Receives and sends events.
    Shared,
    /// Only receives.
    Slave,
    /// Neither.
    Private,
    /// Neither, and cannot be bound.
    Unbindable,
}

/// A change of mount attributes.
#[derive(Debug, Default)]
pub struct MountChange<'a> {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: Option<BorrowedFd<'a>>,
}

impl<'a> MountChange<'a> {
    /// No change yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets and clears these attributes. Setting an access time mode clears the others, as the kernel demands.
    pub fn attributes(mut self, set: MountAttrFlags, clear: MountAttrFlags) -> Self {
        self.set |= u64::from(set.bits());
        self.clear |= u64::from(clear.bits());
        self
    }

    /// Sets attributes by the kernel's numbers (`MOUNT_ATTR_*`), for those rustix does not name.
    pub fn raw_attributes(mut self, set: u64, clear: u64) -> Self {
        self.set |= set;
        self.clear |= clear;
        self
    }

    /// Sets the propagation type.
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = match propagation {
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        };
        self
    }

    /// Maps ids by the mapping of this user namespace (`MOUNT_ATTR_IDMAP`).
    pub fn id_mapped_by(mut self, user_namespace: BorrowedFd<'a>) -> Self {
        self.user_namespace = Some(user_namespace);
        self
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0 && self.propagation == 0 && self.user_namespace.is_none()
    }

    /// Changes the mount that `mount` is the root of.
    ///
    /// # Errors
    /// What mount_setattr(2) reports: `ENOSYS` before Linux 5.12, `EINVAL` for a descriptor that is not the
    /// root of a mount or, with an id mapping, a file system that cannot do it.
    pub fn apply(&self, mount: impl AsFd, reach: Reach) -> io::Result<()> {
        let mut attributes = libc::mount_attr {
            attr_set: self.set,
            attr_clr: self.clear,
            propagation: self.propagation,
            userns_fd: 0,
        };
        if let Some(namespace) = self.user_namespace {
            attributes.attr_set |= libc::MOUNT_ATTR_IDMAP;
            attributes.userns_fd = namespace.as_raw_fd() as u64;
        }
        let mut flags = libc::AT_EMPTY_PATH;
        if reach == Reach::Recursive {
            flags |= libc::AT_RECURSIVE;
        }
        // SAFETY: the path is an empty NUL-terminated string, `attributes` has the kernel's layout and the size
        // is given; both outlive the call. rustix has no mount_setattr.
        let result = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                mount.as_fd().as_raw_fd(),
                c"".as_ptr(),
                flags,
                &raw mut attributes,
                size_of::<libc::mount_attr>(),
            )
        };
        checked(result).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mount::{FsMountFlags, FsOpenFlags, fsconfig_create, fsmount, fsopen};

    #[test]
    fn detached_mount_becomes_read_only() {
        let Ok(context) = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC) else {
            eprintln!("skipped: needs root");
            return;
        };
        fsconfig_create(&context).unwrap();
        let mount = fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )
        .unwrap();
        let create = || rustix::fs::mkdirat(&mount, "a", rustix::fs::Mode::RWXU);
        MountChange::new()
            .attributes(MountAttrFlags::MOUNT_ATTR_RDONLY, MountAttrFlags::empty())
            .apply(&mount, Reach::Recursive)
            .unwrap();
        assert_eq!(create(), Err(rustix::io::Errno::ROFS));
        MountChange::new()
            .attributes(MountAttrFlags::empty(), MountAttrFlags::MOUNT_ATTR_RDONLY)
            .apply(&mount, Reach::Single)
            .unwrap();
        assert_eq!(create(), Ok(()));
    }
}
