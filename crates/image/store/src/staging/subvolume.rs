//! Subvolumes of btrfs, which are removed in one step.

use crioxide_sys::btrfs;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, open, statat};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Removes the subvolume at `path`; `false` if there is none, or not without removing what is in it one by one.
pub(super) fn destroy(path: &Path) -> bool {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return false;
    };
    let Ok(status) = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) else {
        return false;
    };
    // Any file system may have such an inode: then the call fails.
    let is_root = status.st_ino == btrfs::ROOT_INODE
        && FileType::from_raw_mode(status.st_mode) == FileType::Directory;
    let destroyed = is_root.then(|| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(parent, flags, Mode::empty())?;
        btrfs::destroy_subvolume(&directory, &CString::new(name.as_bytes())?)
    });
    matches!(destroyed, Some(Ok(())))
}
