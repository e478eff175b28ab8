//! New file systems, made detached and configured by the descriptor based mount API.

use std::os::fd::OwnedFd;

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::source::PreparedMount;
use crate::setup_error::{SetupError, at};

/// Makes the file system of a mount, not yet attached anywhere.
pub(crate) fn make(mount: &PreparedMount, label: Option<&str>) -> Result<OwnedFd, SetupError> {
    let context = fsopen(mount.kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(at("open a file system for", &mount.destination))?;
    let refused = |option: &str| {
        let option = option.to_owned();
        move |error: rustix::io::Errno| SetupError::MountOption {
            kind: mount.kind.clone(),
            destination: mount.destination.clone(),
            option,
            source: error.into(),
        }
    };
    if !mount.source_name.as_os_str().is_empty() {
        fsconfig_set_string(&context, "source", mount.source_name.as_path())
            .map_err(refused("source"))?;
    }
    for (key, value) in &mount.options.data {
        match value {
            Some(value) => fsconfig_set_string(&context, key.as_str(), value.as_str()),
            None => fsconfig_set_flag(&context, key.as_str()),
        }
        .map_err(refused(key))?;
    }
    if let Some(label) = label.filter(|_| takes_label(&mount.kind)) {
        fsconfig_set_string(&context, "context", label).map_err(refused("context"))?;
    }
    fsconfig_create(&context).map_err(at("make the file system for", &mount.destination))?;
    // A tmpfs becomes read-only only when everything below it is in place.
    let attributes = if is_late_read_only(mount) {
        mount.options.attributes.set & !MountAttrFlags::MOUNT_ATTR_RDONLY
    } else {
        mount.options.attributes.set
    };
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .map_err(at("mount the file system for", &mount.destination))
}

/// Whether the mount is made read-only at the end instead of at once.
pub(crate) fn is_late_read_only(mount: &PreparedMount) -> bool {
    mount.kind == "tmpfs"
        && mount
            .options
            .attributes
            .set
            .contains(MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// File systems whose files have no label of their own take the container's.
fn takes_label(kind: &str) -> bool {
    !matches!(kind, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2")
}
