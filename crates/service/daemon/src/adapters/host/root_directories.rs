//! Directories made inside a container's root: for volumes of the image, and the working directory.

use std::path::{Component, Path, PathBuf};

use crioxide_engine::ports::{Owner, PortError};
use crioxide_files::InRoot;
use rustix::fs::{FileType, Gid, Uid, fchown};

/// Makes those that are missing; what is new belongs to `owner`.
pub(super) fn create(
    rootfs: &Path,
    directories: &[String],
    owner: Option<Owner>,
) -> Result<(), PortError> {
    let root = InRoot::open(rootfs)?;
    for directory in directories {
        match owner {
            None => drop(root.mkdir_all(directory, 0o755)?),
            Some(owner) => create_owned(&root, Path::new(directory), owner)?,
        }
    }
    Ok(())
}

/// Refuses a root in which the kernel's places are links: runc up to 1.1 makes devices where they lead, on the host.
pub(super) fn check(rootfs: &Path) -> Result<(), PortError> {
    let root = InRoot::open(rootfs)?;
    for place in ["dev", "proc", "sys"] {
        match root.symlink_stat(place) {
            Ok(status) if FileType::from_raw_mode(status.st_mode) == FileType::Symlink => {
                return Err(format!("/{place} of the image is a symbolic link").into());
            }
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Level by level, as each new one is to be somebody else's.
fn create_owned(root: &InRoot, directory: &Path, owner: Owner) -> Result<(), PortError> {
    let mut path = PathBuf::new();
    for part in directory.components() {
        let Component::Normal(part) = part else {
            continue;
        };
        path.push(part);
        let there = match root.stat(&path) {
            Ok(_) => true,
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(error.into()),
        };
        let made = root.mkdir_all(&path, 0o755)?;
        if !there {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            chown_open(&made, uid, gid).map_err(|error| {
                format!("cannot change the owner of {}: {error}", path.display())
            })?;
        }
    }
    Ok(())
}

/// The descriptor may be one that only names the directory.
fn chown_open(directory: &std::os::fd::OwnedFd, uid: Uid, gid: Gid) -> rustix::io::Result<()> {
    use rustix::fs::{AtFlags, chownat};
    match fchown(directory, Some(uid), Some(gid)) {
        Err(rustix::io::Errno::BADF) => {
            chownat(directory, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn new_levels_are_the_owners_and_nothing_leaves_the_root() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        std::fs::create_dir_all(root.join("old")).unwrap();
        std::os::unix::fs::symlink("../..", root.join("out")).unwrap();
        let owner = Owner {
            uid: 70_000,
            gid: 70_001,
        };
        let wanted = ["/old/new/deep", "/../../escaped", "out/through"].map(str::to_owned);
        create(&root, &wanted, Some(owner)).unwrap();
        let of = |path: &str| {
            let status = std::fs::metadata(root.join(path)).unwrap();
            (status.uid(), status.gid())
        };
        assert_eq!(of("old"), (0, 0));
        for path in ["old/new", "old/new/deep", "escaped", "through"] {
            assert_eq!(of(path), (70_000, 70_001), "{path}");
        }
        assert!(!place.path().join("through").exists());
    }
}
