//! What the kernel counts of the disk below a directory.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A block device with a file system.
#[derive(Debug)]
pub(super) struct Disk {
    /// Documentation/block/stat.rst of Linux.
    counters: PathBuf,
}

impl Disk {
    /// The disk of a directory; none where its file system has none, or one that cannot be found.
    pub(super) fn of(directory: &Path) -> Option<Self> {
        let mut device = directory.metadata().ok()?.dev();
        if rustix::fs::major(device) == 0 {
            // btrfs gives each subvolume a device of its own.
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
            let source = mount_source(&mounts, &directory.canonicalize().ok()?)?.to_owned();
            device = Path::new(&source).metadata().ok()?.rdev();
        }
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let counters = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
        counters.exists().then_some(Self { counters })
    }

    /// Reads, writes, discards and flushes that have ended.
    pub(super) fn requests(&self) -> Option<u64> {
        let text = std::fs::read_to_string(&self.counters).ok()?;
        let fields: Vec<u64> = text
            .split_whitespace()
            .map(|word| word.parse().unwrap_or(0))
            .collect();
        let ended = [0, 4, 11, 15].map(|field| fields.get(field).copied().unwrap_or(0));
        Some(ended.into_iter().fold(0, u64::wrapping_add))
    }
}

/// What is mounted where the directory is, if that is a device.
fn mount_source<'a>(mounts: &'a str, directory: &Path) -> Option<&'a str> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        let (Some(point), Some(source)) = (before.split(' ').nth(4), after.split(' ').nth(1))
        else {
            continue;
        };
        // A later mount on the same place lies above.
        let is_nearer = best.is_none_or(|(length, _)| point.len() >= length);
        if directory.starts_with(point) && is_nearer {
            best = Some((point.len(), source));
        }
    }
    best.map(|(_, source)| source)
        .filter(|source| source.starts_with("/dev/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "24 1 254:0 / / rw - ext4 /dev/vda rw\n\
                      30 24 0:30 /sub /data rw,x shared:1 - btrfs /dev/vdb rw\n\
                      31 24 0:31 / /data/tmp rw - tmpfs none rw\n\
                      32 24 0:32 / /dat rw - ext4 /dev/vdc rw\n";
        let source = |path| mount_source(mounts, Path::new(path));
        assert_eq!(source("/data/store"), Some("/dev/vdb"));
        assert_eq!(source("/data/tmp/x"), None);
        assert_eq!(source("/var"), Some("/dev/vda"));
    }

    #[test]
    fn what_has_no_disk_has_no_counters() {
        assert!(Disk::of(Path::new("/proc")).is_none());
        if let Some(disk) = Disk::of(Path::new("/var/tmp")) {
            assert!(disk.requests().is_some());
        }
    }
}
