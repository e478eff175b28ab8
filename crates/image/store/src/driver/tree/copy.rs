//! A copy of a whole tree: all kinds of files, owners, modes, times, extended attributes and hard links.

use super::file_system::{DEPTH_MAX, copy_metadata, kind, look_at, names, open_directory};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, SeekFrom, Stat, ioctl_ficlone, linkat, mkdirat, mknodat,
    openat, readlinkat, seek, symlinkat,
};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Copies what is in `from`, and the metadata of `from` itself, to the empty directory `to`.
pub(in crate::driver) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let (source, target) = (open_directory(CWD, from)?, open_directory(CWD, to)?);
    let status = rustix::fs::fstat(&source)?;
    let mut copy = Copy::to(target.as_fd());
    copy.directory(&source, &target, Path::new(""), DEPTH_MAX)?;
    copy_metadata((source.as_fd(), c"."), (target.as_fd(), c"."), &status)
}

/// What is copied to one tree.
pub(super) struct Copy<'a> {
    root: BorrowedFd<'a>,
    /// Where files with several names are in the copy, relative to its root.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<'a> Copy<'a> {
    pub(super) fn to(root: BorrowedFd<'a>) -> Self {
        Self {
            root,
            links: HashMap::new(),
        }
    }

    fn directory(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        place: &Path,
        depth: usize,
    ) -> io::Result<()> {
        let depth = depth.checked_sub(1).ok_or(Errno::LOOP)?;
        for name in names(from)? {
            self.entry(
                from,
                to,
                &name,
                &place.join(OsStr::from_bytes(name.to_bytes())),
                depth,
            )?;
        }
        Ok(())
    }

    /// Copies `name`, with all below it, to `to`, which is `place` of the new tree without the name.
    pub(super) fn entry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CStr,
        place: &Path,
        depth: usize,
    ) -> io::Result<()> {
        let status = look_at(from, name)?.ok_or(Errno::NOENT)?;
        let file_type = kind(&status);
        if file_type != FileType::Directory && status.st_nlink > 1 {
            let key = (status.st_dev, status.st_ino);
            if let Some(first) = self.links.get(&key) {
                return Ok(linkat(self.root, first, to, name, AtFlags::empty())?);
            }
            self.links.insert(key, place.to_owned());
        }
        match file_type {
            FileType::Directory => {
                mkdirat(to, name, Mode::RWXU)?;
                let (inner, copied) = (open_directory(from, name)?, open_directory(to, name)?);
                self.directory(&inner, &copied, place, depth)?;
            }
            FileType::RegularFile => content(from, to, name, &status)?,
            FileType::Symlink => symlinkat(&readlinkat(from, name, Vec::new())?, to, name)?,
            other => mknodat(to, name, other, Mode::RUSR, status.st_rdev)?,
        }
        // Last, because making what is inside a directory changes its times.
        copy_metadata((from.as_fd(), name), (to.as_fd(), name), &status)
    }
}

fn content(from: &OwnedFd, to: &OwnedFd, name: &CStr, status: &Stat) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut source = File::from(openat(from, name, flags, Mode::empty())?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut target = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
    if status.st_size == 0 || ioctl_ficlone(&target, &source).is_ok() {
        return Ok(());
    }
    // Holes stay holes: a few bytes of an archive can be a file of terabytes.
    let size = u64::try_from(status.st_size).unwrap_or_default();
    target.set_len(size)?;
    let mut at = 0;
    while let Some(start) = found(seek(&source, SeekFrom::Data(at)))? {
        let end = found(seek(&source, SeekFrom::Hole(start)))?.unwrap_or(size);
        source.seek(io::SeekFrom::Start(start))?;
        target.seek(io::SeekFrom::Start(start))?;
        // In the kernel, by copy_file_range(2) where it can.
        io::copy(&mut (&source).take(end - start), &mut target)?;
        at = end;
    }
    Ok(())
}

/// `None` where nothing more of what was looked for comes.
fn found(at: Result<u64, Errno>) -> io::Result<Option<u64>> {
    match at {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
