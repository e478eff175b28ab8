//! `tmpcopyup`: a tmpfs that starts with what the image has at its place.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, chownat, fchmod, futimens,
    mkdirat, mknodat, openat, readlinkat, statat, symlinkat,
};

/// Deepest directory that is followed.
const MAX_DEPTH: usize = 64;

/// Copies everything in directory `from` to directory `to`. Nothing is followed out of `from`.
pub(crate) fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // Both may be descriptors that only name their directories.
    let (from, to) = (reopen_directory(from, c".")?, reopen_directory(to, c".")?);
    copy_directory(&from, to.as_fd(), 0)
}

fn copy_directory(from: &OwnedFd, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(rustix::io::Errno::LOOP.into());
    }
    let status = rustix::fs::fstat(from)?;
    rustix::fs::fchown(
        to,
        Some(rustix::fs::Uid::from_raw(status.st_uid)),
        Some(rustix::fs::Gid::from_raw(status.st_gid)),
    )?;
    fchmod(to, Mode::from_raw_mode(status.st_mode & 0o7777))?;
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name, depth)?;
        }
    }
    Ok(())
}

fn copy_entry(from: &OwnedFd, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> io::Result<()> {
    let status = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(status.st_mode & 0o7777);
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU)?;
            let target = reopen_directory(to, name)?;
            copy_directory(
                &reopen_directory(from.as_fd(), name)?,
                target.as_fd(),
                depth + 1,
            )?;
            return set_times(&target, &status);
        }
        FileType::Symlink => symlinkat(&readlinkat(from, name, Vec::new())?, to, name)?,
        FileType::RegularFile => copy_file(from, to, name, &status)?,
        kind => mknodat(to, name, kind, mode, status.st_rdev)?,
    }
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(status.st_uid),
        rustix::fs::Gid::from_raw(status.st_gid),
    );
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::RegularFile {
        // Changing the owner drops set-id bits.
        rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
    }
    Ok(())
}

fn copy_file(from: &OwnedFd, to: BorrowedFd<'_>, name: &CStr, status: &Stat) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut source = std::fs::File::from(openat(from, name, flags, Mode::empty())?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut target = std::fs::File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
    io::copy(&mut source, &mut target)?;
    set_times(&target, status)
}

fn set_times(file: impl AsFd, status: &Stat) -> io::Result<()> {
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
    Ok(futimens(file, &times)?)
}

fn reopen_directory(at: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}
