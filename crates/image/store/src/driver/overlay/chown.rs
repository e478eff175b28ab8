//! The way without mapped mounts: owners are changed in the mounted layer, file by file.
//!
//! With `metacopy` a changed owner copies a file's metadata into the writable layer and none of its content.

use super::mount::{Interface, OverlayMount};
use crate::mounts::MountIds;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, fchown, openat,
    statat,
};
use rustix::mount::{UnmountFlags, unmount};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// How deep directories may be nested. Each level is a descriptor and a frame of the stack.
const DEPTH_MAX: usize = 1024;
const FILE_CAPABILITIES: &str = "security.capability";

pub(super) fn mount_and_chown(
    mount: &OverlayMount,
    ids: &MountIds,
    interface: Interface,
) -> io::Result<()> {
    let mut mount = mount.clone();
    mount.options.retain(|(key, _)| key != "metacopy");
    mount.options.push(("metacopy".into(), Some("on".into())));
    mount.mount(interface)?;
    let target = mount.home.join(&mount.target);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let changed = openat(CWD, &target, flags, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|root| change_all(root.as_fd(), ids, DEPTH_MAX));
    if changed.is_err() {
        // The error that matters is the one that ended the walk.
        let _ = unmount(&target, UnmountFlags::DETACH);
    }
    changed
}

/// Everything in a directory. The directory itself already is its owner's: it was made that way, or just changed.
fn change_all(directory: BorrowedFd<'_>, ids: &MountIds, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("directories are nested too deeply"));
    }
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let status = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let (uid, gid) = owner(&status, ids);
        if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
            change_file(directory, name, &status, (uid, gid))?;
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = openat(directory, name, flags, Mode::empty())?;
        fchown(&inner, uid, gid)?;
        change_all(inner.as_fd(), ids, depth - 1)?;
    }
    Ok(())
}

fn owner(status: &Stat, ids: &MountIds) -> (Option<Uid>, Option<Gid>) {
    (
        ids.uid(status.st_uid).map(Uid::from_raw),
        ids.gid(status.st_gid).map(Gid::from_raw),
    )
}

/// The kernel takes set-user-id bits and file capabilities away with a new owner; they are put back.
fn change_file(
    directory: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    status: &Stat,
    (uid, gid): (Option<Uid>, Option<Gid>),
) -> io::Result<()> {
    let regular = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
    let special = status.st_mode & 0o6000 != 0;
    let mut capabilities = Vec::new();
    let file = if regular && status.st_mode & 0o111 != 0 {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(directory, name, flags, Mode::empty())?;
        let mut buffer = [0_u8; 64];
        if let Ok(length) = rustix::fs::fgetxattr(&file, FILE_CAPABILITIES, &mut buffer[..]) {
            capabilities.extend_from_slice(&buffer[..length]);
        }
        Some(file)
    } else {
        None
    };
    // A hard link's other names find it changed already: its owner is no id of the image any more.
    chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    if regular && special {
        let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
        chmodat(directory, name, mode, AtFlags::empty())?;
    }
    if let (Some(file), false) = (file, capabilities.is_empty()) {
        rustix::fs::fsetxattr(
            &file,
            FILE_CAPABILITIES,
            &capabilities,
            rustix::fs::XattrFlags::empty(),
        )?;
    }
    Ok(())
}
