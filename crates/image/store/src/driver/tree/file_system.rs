//! Small steps on trees that are walked by descriptor.

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, openat, statat, unlinkat, utimensat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// How deep directories may be nested. Each level is a descriptor or two and a frame of the stack.
pub(super) const DEPTH_MAX: usize = 1024;

/// Attributes that steer overlayfs; a tree of its own needs none.
const OVERLAY: &[u8] = b"trusted.overlay.";

pub(in crate::driver) fn open_directory(
    at: impl AsFd,
    name: impl rustix::path::Arg,
) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// The names in a directory.
pub(super) fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

pub(super) fn look_at(directory: impl AsFd, name: &CStr) -> io::Result<Option<Stat>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) => Ok(Some(status)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn kind(status: &Stat) -> FileType {
    FileType::from_raw_mode(status.st_mode)
}

/// Owner, mode, extended attributes and times of what `name` is, given to what `new_name` is.
pub(super) fn copy_metadata(
    (from, name): (BorrowedFd<'_>, &CStr),
    (to, new_name): (BorrowedFd<'_>, &CStr),
    status: &Stat,
) -> io::Result<()> {
    let owner = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    let no_follow = AtFlags::SYMLINK_NOFOLLOW;
    chownat(to, new_name, Some(owner.0), Some(owner.1), no_follow)?;
    if kind(status) != FileType::Symlink {
        // After the owner, whose change clears the special bits.
        let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
        chmodat(to, new_name, mode, AtFlags::empty())?;
    }
    copy_xattrs(&path(from, name), &path(to, new_name))?;
    set_times(to, new_name, status)
}

pub(super) fn set_times(to: BorrowedFd<'_>, name: &CStr, status: &Stat) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: status.st_atime as _,
            tv_nsec: status.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: status.st_mtime as _,
            tv_nsec: status.st_mtime_nsec as _,
        },
    };
    Ok(utimensat(to, name, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Removes what `name` is, with all below it; nothing there is fine.
pub(super) fn remove(directory: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
    let Some(status) = look_at(directory, name)? else {
        return Ok(());
    };
    if kind(&status) != FileType::Directory {
        return Ok(unlinkat(directory, name, AtFlags::empty())?);
    }
    let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
    let inner = open_directory(directory, name)?;
    for name in names(&inner)? {
        remove(inner.as_fd(), &name, depth)?;
    }
    Ok(unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

/// There are no calls for extended attributes by directory descriptor; the link in procfs leads to exactly that directory.
pub(super) fn path(directory: BorrowedFd<'_>, name: &CStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
        .join(OsStr::from_bytes(name.to_bytes()))
}

fn copy_xattrs(from: &PathBuf, to: &PathBuf) -> io::Result<()> {
    let list = match all(|buffer| rustix::fs::llistxattr(from, buffer)) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    for name in list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if name.starts_with(OVERLAY) {
            continue;
        }
        let name = OsStr::from_bytes(name);
        let value = all(|buffer| rustix::fs::lgetxattr(from, name, buffer))?;
        match rustix::fs::lsetxattr(to, name, &value, XattrFlags::empty()) {
            // The label is the file system's own where SELinux is off.
            Err(Errno::OPNOTSUPP) => {}
            other => other?,
        }
    }
    Ok(())
}

/// A list or value of whatever size.
fn all(mut get: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match get(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // The kernel's limit of both is 64 KiB.
            Err(Errno::RANGE) if buffer.len() < 64 << 10 => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
}
