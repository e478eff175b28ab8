//! A layer's changes in overlay form, applied to the tree that they are changes of.

use super::file_system::{DEPTH_MAX, copy_metadata, kind, look_at, names, open_directory, remove};
use rustix::fs::{CWD, FileType, Mode, Stat, fgetxattr, mkdirat, renameat};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Moves everything in `added` to its place in `whole`, and takes away there what `added` hides. `take_root`: the root of
/// the tree gets the metadata of `added`, or else keeps its own.
pub(super) fn merge(added: &Path, whole: &Path, take_root: bool) -> io::Result<()> {
    let (from, to) = (open_directory(CWD, added)?, open_directory(CWD, whole)?);
    let status = rustix::fs::fstat(match take_root {
        true => &from,
        false => &to,
    })?;
    merge_directory(&from, &to, DEPTH_MAX)?;
    let source = if take_root { &from } else { &to };
    copy_metadata((source.as_fd(), c"."), (to.as_fd(), c"."), &status)
}

fn merge_directory(from: &OwnedFd, to: &OwnedFd, depth: usize) -> io::Result<()> {
    let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    if is_opaque(from)? {
        for name in names(to)? {
            remove(to.as_fd(), &name, DEPTH_MAX)?;
        }
    }
    for name in names(from)? {
        let status = look_at(from, &name)?.ok_or(Errno::NOENT)?;
        if kind(&status) != FileType::Directory {
            remove(to.as_fd(), &name, DEPTH_MAX)?;
            if !is_whiteout(&status) {
                renameat(from, &name, to, &name)?;
            }
            continue;
        }
        let there = look_at(to, &name)?;
        if there.is_none_or(|there| kind(&there) != FileType::Directory) {
            remove(to.as_fd(), &name, DEPTH_MAX)?;
            mkdirat(to, &name, Mode::RWXU)?;
        }
        let (inner, merged) = (open_directory(from, &name)?, open_directory(to, &name)?);
        merge_directory(&inner, &merged, depth)?;
        copy_metadata((from.as_fd(), &name), (to.as_fd(), &name), &status)?;
    }
    Ok(())
}

fn is_whiteout(status: &Stat) -> bool {
    kind(status) == FileType::CharacterDevice && status.st_rdev == 0
}

fn is_opaque(directory: &OwnedFd) -> io::Result<bool> {
    let mut value = [0; 2];
    match fgetxattr(directory, "trusted.overlay.opaque", &mut value) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
