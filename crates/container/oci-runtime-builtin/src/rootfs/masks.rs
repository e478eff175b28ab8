//! Paths that a container may not see, and paths it may not write.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crioxide_files::InRoot;
use crioxide_sys::mount_attributes::{MountChange, Reach};
use rustix::fs::{FileType, fstat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, open_tree,
};

use crate::rootfs::devices::host_null;
use crate::rootfs::mounts::attach::place;
use crate::setup_error::{SetupError, at};

/// Hides files behind the null device and directories behind one empty, read-only directory that all of them share.
///
/// The null device is the host's, looked at by descriptor; the container's `/dev` is not trusted for it.
pub(crate) fn mask(root: &InRoot, paths: &[String], label: Option<&str>) -> Result<(), SetupError> {
    if paths.is_empty() {
        return Ok(());
    }
    let null = host_null()?;
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let target = match root.open_path(path) {
            Ok(target) => target,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        let status = fstat(&target).map_err(at("look at masked path", path))?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
            place(
                copy(null.as_fd(), path)?.as_fd(),
                target.as_fd(),
                Path::new(path),
            )?;
            continue;
        }
        // The first one is mounted, and the others are copies of it: only an attached mount can be copied.
        match &empty {
            Some(first) => place(
                copy(first.as_fd(), path)?.as_fd(),
                target.as_fd(),
                Path::new(path),
            )?,
            None => {
                let first =
                    empty_directory(label).map_err(at("make an empty directory to mask", path))?;
                place(first.as_fd(), target.as_fd(), Path::new(path))?;
                empty = Some(first);
            }
        }
    }
    Ok(())
}

/// Makes paths read-only where they are.
pub(crate) fn make_read_only(root: &InRoot, paths: &[String]) -> Result<(), SetupError> {
    for path in paths {
        let target = match root.open_path(path) {
            Ok(target) => target,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(&target, "", flags).map_err(at("bind read-only path", path))?;
        MountChange::new()
            .attributes(MountAttrFlags::MOUNT_ATTR_RDONLY, MountAttrFlags::empty())
            .apply(&tree, Reach::Recursive)
            .map_err(at("make read-only", path))?;
        place(tree.as_fd(), target.as_fd(), Path::new(path))?;
    }
    Ok(())
}

/// What is not there needs no hiding; neither does something behind a file or a loop of links.
fn is_absent(error: &crioxide_files::InRootError) -> bool {
    error.is_not_found() || error.source.kind() == std::io::ErrorKind::NotADirectory
}

fn copy(mount: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, SetupError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(mount, "", flags).map_err(at("copy the mount that masks", path))
}

fn empty_directory(label: Option<&str>) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "nr_blocks", "1")?;
    fsconfig_set_string(&context, "nr_inodes", "1")?;
    if let Some(label) = label {
        fsconfig_set_string(&context, "context", label)?;
    }
    fsconfig_create(&context)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )
}
