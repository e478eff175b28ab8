//! Putting mounts in place inside the container's root, by descriptor on both ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crioxide_files::InRoot;
use crioxide_sys::mount_attributes::{MountChange, Reach};
use rustix::fs::{FileType, fstat};
use rustix::mount::{MountAttrFlags, MoveMountFlags, move_mount};

use super::source::PreparedMount;
use super::{cgroup, filesystem};
use crate::setup_error::{SetupError, at};

/// What attaching needs to know besides the mount.
#[derive(Debug)]
pub(crate) struct AttachContext<'a> {
    pub(crate) root: &'a InRoot,
    pub(crate) label: Option<&'a str>,
    pub(crate) cgroup_view: &'a cgroup::CgroupView,
}

/// A mount in place.
#[derive(Debug)]
pub(crate) struct AttachedMount {
    pub(crate) kind: String,
    pub(crate) mount: OwnedFd,
    late_read_only: bool,
}

impl AttachedMount {
    /// Makes it read-only, if that was put off.
    pub(crate) fn finish(&self) -> Result<(), SetupError> {
        if !self.late_read_only {
            return Ok(());
        }
        MountChange::new()
            .attributes(MountAttrFlags::MOUNT_ATTR_RDONLY, MountAttrFlags::empty())
            .apply(&self.mount, Reach::Single)
            .map_err(crate::setup_error::step("make a tmpfs read-only"))
    }
}

/// Makes or takes the mount and attaches it at its destination.
pub(crate) fn attach(
    mount: PreparedMount,
    context: &AttachContext<'_>,
) -> Result<AttachedMount, SetupError> {
    check_destination(&mount.destination, context.root, &mount.kind)?;
    if mount.tree.is_none() && matches!(mount.kind.as_str(), "cgroup" | "cgroup2") {
        return cgroup::attach(&mount, context).map(|fd| AttachedMount {
            kind: mount.kind,
            mount: fd,
            late_read_only: false,
        });
    }
    let late_read_only = mount.tree.is_none() && filesystem::is_late_read_only(&mount);
    let fd = match mount.tree.as_ref() {
        Some(tree) => {
            let target = mount_point(context.root, &mount.destination, kind_of(tree.as_fd())?)?;
            place(tree.as_fd(), target.as_fd(), &mount.destination)?;
            apply_attributes(&mount, tree.as_fd())?;
            rustix::io::dup(tree).map_err(at("keep mount", &mount.destination))?
        }
        None => {
            let fd = filesystem::make(&mount, context.label)?;
            let target = mount_point(context.root, &mount.destination, FileType::Directory)?;
            if mount.options.copy_up {
                crate::rootfs::copy_up::copy_up(target.as_fd(), fd.as_fd())
                    .map_err(at("copy up", &mount.destination))?;
            }
            place(fd.as_fd(), target.as_fd(), &mount.destination)?;
            apply_recursive(&mount, fd.as_fd())?;
            fd
        }
    };
    for (propagation, reach) in &mount.options.propagation {
        MountChange::new()
            .propagation(*propagation)
            .apply(&fd, *reach)
            .map_err(at("change the propagation of", &mount.destination))?;
    }
    Ok(AttachedMount {
        kind: mount.kind,
        mount: fd,
        late_read_only,
    })
}

/// Moves a detached mount onto an open directory or file.
pub(crate) fn place(
    mount: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    destination: &Path,
) -> Result<(), SetupError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags).map_err(at("mount at", destination))
}

/// Opens the place to mount at, making it first if it is missing: a directory, or an empty file for anything else.
pub(crate) fn mount_point(
    root: &InRoot,
    destination: &Path,
    kind: FileType,
) -> Result<OwnedFd, SetupError> {
    if kind == FileType::Directory {
        return Ok(root.mkdir_all(destination, 0o755)?);
    }
    match root.open_path(destination) {
        Ok(found) => return Ok(found),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(parent) = destination.parent() {
        root.mkdir_all(parent, 0o755)?;
    }
    match root.create_new_file(destination, 0o644) {
        Ok(_) => {}
        Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    Ok(root.open_path(destination)?)
}

/// What a descriptor is.
pub(crate) fn kind_of(fd: BorrowedFd<'_>) -> Result<FileType, SetupError> {
    let status = fstat(fd).map_err(crate::setup_error::step("look at a mount source"))?;
    Ok(FileType::from_raw_mode(status.st_mode))
}

fn apply_attributes(mount: &PreparedMount, tree: BorrowedFd<'_>) -> Result<(), SetupError> {
    let options = &mount.options;
    // Only restrictions are added: `rw` and the like do not lift what the host put on the source.
    let set = options.attributes.set;
    let access_time = options.attributes.clear & MountAttrFlags::MOUNT_ATTR__ATIME;
    let change = MountChange::new().attributes(set, access_time);
    if !change.is_empty() {
        change
            .apply(tree, Reach::Single)
            .map_err(at("set the options of mount", &mount.destination))?;
    }
    apply_recursive(mount, tree)
}

fn apply_recursive(mount: &PreparedMount, tree: BorrowedFd<'_>) -> Result<(), SetupError> {
    let recursive = mount.options.recursive;
    if recursive.is_empty() {
        return Ok(());
    }
    MountChange::new()
        .attributes(recursive.set, recursive.clear)
        .apply(tree, Reach::Recursive)
        .map_err(at("set the recursive options of mount", &mount.destination))
}

/// Refuses to put the kernel's file systems anywhere but at a real directory of that name, and to hide `/proc`
/// below something that is not one: labels and sysctls are trusted to the right `/proc`.
fn check_destination(destination: &Path, root: &InRoot, kind: &str) -> Result<(), SetupError> {
    let inner = destination.strip_prefix("/").unwrap_or(destination);
    let is_kernel_place = inner == Path::new("proc") || inner == Path::new("sys");
    if !is_kernel_place || !matches!(kind, "proc" | "sysfs") {
        return Ok(());
    }
    match root.symlink_stat(inner) {
        Ok(status) if FileType::from_raw_mode(status.st_mode) == FileType::Directory => Ok(()),
        Ok(_) => Err(SetupError::Unexpected {
            path: destination.to_owned(),
            found: "not a directory",
        }),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}
