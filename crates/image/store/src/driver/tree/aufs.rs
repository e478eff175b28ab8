//! A layer's changes in overlay form, turned into what aufs reads: files whose names say what is hidden.

use super::file_system::{DEPTH_MAX, kind, look_at, names, open_directory, set_times};
use super::merge::{OPAQUE, is_opaque, is_whiteout};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fremovexattr, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Before the name of what is hidden.
const HIDDEN: &[u8] = b".wh.";
/// In a directory that hides all that is below it.
const ALL_HIDDEN: &CStr = c".wh..wh..opq";

/// Replaces the white-outs of a tree.
pub(in crate::driver) fn to_aufs(tree: &Path) -> io::Result<()> {
    directory(&open_directory(CWD, tree)?, DEPTH_MAX)
}

fn directory(opened: &OwnedFd, depth: usize) -> io::Result<()> {
    let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    let own = rustix::fs::fstat(opened)?;
    for name in names(opened)? {
        let status = look_at(opened, &name)?.ok_or(Errno::NOENT)?;
        if is_whiteout(&status) {
            unlinkat(opened, &name, AtFlags::empty())?;
            let hiding = [HIDDEN, name.to_bytes()].concat();
            mark(opened, &CString::new(hiding)?)?;
        } else if kind(&status) == FileType::Directory {
            directory(&open_directory(opened, &name)?, depth)?;
        }
    }
    if is_opaque(opened)? {
        fremovexattr(opened, OPAQUE)?;
        mark(opened, ALL_HIDDEN)?;
    }
    set_times(opened.as_fd(), c".", &own)
}

fn mark(directory: &OwnedFd, name: &CStr) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::RGRP | Mode::ROTH;
    openat(directory, name, flags, mode)?;
    Ok(())
}
