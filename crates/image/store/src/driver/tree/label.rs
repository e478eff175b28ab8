//! SELinux labels of a tree, for drivers whose layers cannot be mounted with one.

use super::file_system::{DEPTH_MAX, kind, look_at, names, open_directory, path};
use rustix::fs::{CWD, FileType, XattrFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Gives the whole tree to a label.
pub(in crate::driver) fn label(tree: &Path, label: &str) -> io::Result<()> {
    let root = open_directory(CWD, tree)?;
    set(&root, c".", label)?;
    label_in(&root, label, DEPTH_MAX)
}

fn label_in(directory: &OwnedFd, label: &str, depth: usize) -> io::Result<()> {
    let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    for name in names(directory)? {
        set(directory, &name, label)?;
        let status = look_at(directory, &name)?.ok_or(Errno::NOENT)?;
        if kind(&status) == FileType::Directory {
            label_in(&open_directory(directory, &name)?, label, depth)?;
        }
    }
    Ok(())
}

fn set(directory: &OwnedFd, name: &CStr, label: &str) -> io::Result<()> {
    // With the NUL, as all labels are kept.
    let value = [label.as_bytes(), &[0]].concat();
    let path = path(directory.as_fd(), name);
    match rustix::fs::lsetxattr(path, "security.selinux", &value, XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        other => Ok(other?),
    }
}
