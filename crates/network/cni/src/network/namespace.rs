//! Whether a path still leads to the namespace that was meant.

use std::path::Path;

use rustix::io::Errno;

/// Magic number of the kernel's namespace file system.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Device and inode of the namespace at `path`. After a reboot the path may lead to the empty file
/// that its pin was mounted on: that is none.
pub(super) fn namespace_at(path: &Path) -> Result<(u64, u64), Errno> {
    let status = rustix::fs::statfs(path)?;
    if u64::try_from(status.f_type).ok() != Some(NSFS_MAGIC) {
        return Err(Errno::NOENT);
    }
    let namespace = rustix::fs::stat(path)?;
    Ok((namespace.st_dev, namespace.st_ino))
}

/// The path, unless its namespace is gone or the path leads to another one by now: `/proc/PID` is
/// somebody else's after a while, and their links must not be touched.
pub(super) fn still_there(path: Option<&Path>, recorded: Option<(u64, u64)>) -> Option<&Path> {
    path.filter(|path| {
        namespace_at(path).is_ok_and(|found| recorded.is_none_or(|recorded| recorded == found))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_namespace_at_the_path_is_not_ours() {
        let path = Path::new("/proc/self/ns/net");
        let (device, inode) = namespace_at(path).unwrap();
        assert_eq!(still_there(Some(path), Some((device, inode))), Some(path));
        assert_eq!(still_there(Some(path), None), Some(path));
        assert_eq!(still_there(Some(path), Some((device, inode + 1))), None);
        assert_eq!(still_there(Some(Path::new("/proc/version")), None), None);
        assert_eq!(still_there(None, None), None);
    }
}
