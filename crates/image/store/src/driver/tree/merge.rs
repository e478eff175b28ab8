//! A layer's changes in overlay form, applied to the tree that they are changes of.

use super::copy::Copy;
use super::file_system::{
    DEPTH_MAX, copy_metadata, kind, look_at, names, open_directory, remove, set_times,
};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Stat, fgetxattr, fremovexattr, mkdirat, renameat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) const OPAQUE: &str = "trusted.overlay.opaque";

/// Moves everything in `added` to its place in `whole`, and takes away there what `added` hides. `take_root`: the root of
/// the tree gets the metadata of `added`, or else keeps its own. Where files cannot be renamed there, as between subvolumes,
/// they are copied by sharing their content.
pub(in crate::driver) fn merge(added: &Path, whole: &Path, take_root: bool) -> io::Result<()> {
    let (from, to) = (open_directory(CWD, added)?, open_directory(CWD, whole)?);
    let status = rustix::fs::fstat(match take_root {
        true => &from,
        false => &to,
    })?;
    let mut merge = Merge(Copy::to(to.as_fd()));
    merge.directory(&from, &to, Path::new(""), DEPTH_MAX)?;
    let source = if take_root { &from } else { &to };
    copy_metadata((source.as_fd(), c"."), (to.as_fd(), c"."), &status)
}

/// Takes the marks of overlay form away from a tree that has nothing below it: there is nothing to hide.
pub(in crate::driver) fn strip(tree: &Path) -> io::Result<()> {
    let root = open_directory(CWD, tree)?;
    let status = rustix::fs::fstat(&root)?;
    strip_directory(&root, DEPTH_MAX)?;
    set_times(root.as_fd(), c".", &status)
}

fn strip_directory(directory: &OwnedFd, depth: usize) -> io::Result<()> {
    let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    if is_opaque(directory)? {
        fremovexattr(directory, OPAQUE)?;
    }
    for name in names(directory)? {
        let status = look_at(directory, &name)?.ok_or(Errno::NOENT)?;
        if is_whiteout(&status) {
            unlinkat(directory, &name, AtFlags::empty())?;
        } else if kind(&status) == FileType::Directory {
            strip_directory(&open_directory(directory, &name)?, depth)?;
            set_times(directory.as_fd(), &name, &status)?;
        }
    }
    Ok(())
}

struct Merge<'a>(Copy<'a>);

impl Merge<'_> {
    fn directory(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        place: &Path,
        depth: usize,
    ) -> io::Result<()> {
        let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
        if is_opaque(from)? {
            for name in names(to)? {
                remove(to.as_fd(), &name, DEPTH_MAX)?;
            }
        }
        for name in names(from)? {
            let status = look_at(from, &name)?.ok_or(Errno::NOENT)?;
            let place = place.join(OsStr::from_bytes(name.to_bytes()));
            if kind(&status) != FileType::Directory {
                remove(to.as_fd(), &name, DEPTH_MAX)?;
                if !is_whiteout(&status) {
                    self.move_in(from, to, &name, &place)?;
                }
                continue;
            }
            let there = look_at(to, &name)?;
            if there.is_none_or(|there| kind(&there) != FileType::Directory) {
                remove(to.as_fd(), &name, DEPTH_MAX)?;
                mkdirat(to, &name, Mode::RWXU)?;
            }
            let (inner, merged) = (open_directory(from, &name)?, open_directory(to, &name)?);
            self.directory(&inner, &merged, &place, depth)?;
            copy_metadata((from.as_fd(), &name), (to.as_fd(), &name), &status)?;
        }
        Ok(())
    }

    fn move_in(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        place: &Path,
    ) -> io::Result<()> {
        match renameat(from, name, to, name) {
            Err(Errno::XDEV) => self.0.entry(from, to, name, place, DEPTH_MAX),
            other => Ok(other?),
        }
    }
}

pub(super) fn is_whiteout(status: &Stat) -> bool {
    kind(status) == FileType::CharacterDevice && status.st_rdev == 0
}

pub(super) fn is_opaque(directory: &OwnedFd) -> io::Result<bool> {
    let mut value = [0; 2];
    match fgetxattr(directory, OPAQUE, &mut value) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
