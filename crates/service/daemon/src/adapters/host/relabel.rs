//! Setting the SELinux label of files.
//!
//! Everything is looked up from descriptor to descriptor and no link is followed: other containers may change the tree
//! meanwhile.

use std::{
    ffi::CStr,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::Path,
};

use crioxide_engine::ports::PortError;
use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, XattrFlags, getxattr, openat, setxattr, statat},
    io::Errno,
};

const ATTRIBUTE: &str = "security.selinux";
/// How deep directories may be nested. Each level is a descriptor and a frame of the stack.
const DEPTH_MAX: usize = 1024;
/// Directories of the node itself, whose labels no pod may change.
const OF_THE_NODE: [&str; 26] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/tmp",
];

/// Labels a volume, all of it.
pub(super) fn volume(path: &Path, label: &str) -> Result<(), PortError> {
    if OF_THE_NODE.iter().any(|place| path == Path::new(place)) {
        return Err(format!("SELinux relabeling of {} is not allowed", path.display()).into());
    }
    let failed = |error: Errno| format!("cannot relabel {}: {error}", path.display());
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let status = rustix::fs::fstat(&root).map_err(failed)?;
    set(root.as_fd(), label).map_err(failed)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(&root, c".", flags, Mode::empty()).map_err(failed)?;
        below(directory.as_fd(), label, DEPTH_MAX).map_err(failed)?;
    }
    Ok(())
}

/// Labels one file of ours.
pub(crate) fn file(path: &Path, label: &str) -> Result<(), PortError> {
    if label.is_empty() {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let labelled =
        rustix::fs::open(path, flags, Mode::empty()).and_then(|file| set(file.as_fd(), label));
    labelled.map_err(|error| format!("cannot label {}: {error}", path.display()).into())
}

fn below(directory: BorrowedFd<'_>, label: &str, depth: usize) -> Result<(), Errno> {
    if depth == 0 {
        return Err(Errno::LOOP);
    }
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match one(directory, name, label, depth) {
            // Gone meanwhile, or no directory any more.
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn one(parent: BorrowedFd<'_>, name: &CStr, label: &str, depth: usize) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::empty())?;
    set(file.as_fd(), label)?;
    let status = statat(&file, c"", AtFlags::EMPTY_PATH)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(&file, c".", flags, Mode::empty())?;
    below(directory.as_fd(), label, depth - 1)
}

/// A file that has the label is left alone, as a change of labels changes its time. Where there are no labels none is set.
fn set(file: BorrowedFd<'_>, label: &str) -> Result<(), Errno> {
    // A descriptor that only names a file has no attributes of its own; this path leads to that very file.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut buffer = [0_u8; 512];
    if let Ok(length) = getxattr(&path, ATTRIBUTE, &mut buffer[..])
        && buffer[..length]
            .strip_suffix(b"\0")
            .unwrap_or(&buffer[..length])
            == label.as_bytes()
    {
        return Ok(());
    }
    match setxattr(&path, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()) {
        Err(Errno::OPNOTSUPP | Errno::ROFS) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_own_directories_are_refused() {
        for place in ["/", "/etc", "/usr", "/var/lib"] {
            let error = volume(Path::new(place), "a:b:c:s0")
                .unwrap_err()
                .to_string();
            assert!(error.contains("is not allowed"), "{error}");
        }
    }

    #[test]
    fn all_of_a_volume_is_labelled_and_no_link_is_followed() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let (volume_dir, outside) = (place.path().join("volume"), place.path().join("outside"));
        std::fs::create_dir_all(volume_dir.join("a/b")).unwrap();
        std::fs::write(volume_dir.join("a/b/file"), "").unwrap();
        std::fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, volume_dir.join("a/link")).unwrap();
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        match volume(&volume_dir, label) {
            Err(error) if error.to_string().contains("Invalid argument") => {
                println!("skipped: this kernel has a policy without that label");
                return;
            }
            done => done.unwrap(),
        }
        let seen = |path: &Path| {
            let mut buffer = [0_u8; 512];
            let length = rustix::fs::lgetxattr(path, ATTRIBUTE, &mut buffer[..]).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        if seen(&volume_dir).is_none() {
            println!("skipped: no labels on this file system");
            return;
        }
        for path in ["", "a", "a/b", "a/b/file"] {
            let found = seen(&volume_dir.join(path)).unwrap_or_default();
            assert_eq!(found.trim_end_matches('\0'), label, "{path}");
        }
        assert_ne!(seen(&outside).as_deref(), Some(label));
    }
}
