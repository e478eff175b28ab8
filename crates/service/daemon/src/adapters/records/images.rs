//! Images mounted into containers, and directories for volumes, in a container's run directory.
//!
//! Each mount is the container's own, named by its place, so that a daemon that knows only the record finds it.

use std::path::{Path, PathBuf};

use crioxide_engine::ports::{ImageMount, PortError};
use crioxide_files::InRoot;
use crioxide_store::{MountOptions, Store};
use rustix::mount::{UnmountFlags, unmount};

const IMAGES: &str = "image-volumes";
const VOLUMES: &str = "mounts";

/// Mounts an image, and finds the wanted part of it.
pub(super) fn mount(
    store: &Store,
    run: &Path,
    number: usize,
    wanted: &ImageMount,
) -> Result<PathBuf, PortError> {
    let target = run.join(IMAGES).join(number.to_string());
    make_dir(&target)?;
    let options = MountOptions {
        ids: wanted.user.as_ref().and_then(super::mount_ids),
        mount_label: wanted.label.clone(),
        ..MountOptions::default()
    };
    store.mount_image_at(wanted.image.as_str(), &target, &options)?;
    if wanted.sub_path.is_empty() {
        return Ok(target);
    }
    // Links lead nowhere but into the image; and as it cannot change, what was found stays true.
    let root = InRoot::open(&target)?;
    let found = root.open_path(&wanted.sub_path).map_err(|error| {
        if error.is_not_found() {
            let missing = &wanted.sub_path;
            PortError::from(format!(
                "sub path {missing:?} does not exist in image volume"
            ))
        } else {
            error.into()
        }
    })?;
    let path = path_of(&found)?;
    if path.starts_with(&target) {
        Ok(path)
    } else {
        Err(format!("sub path {:?} leads out of the image", wanted.sub_path).into())
    }
}

/// Where an open file is.
fn path_of(file: &std::os::fd::OwnedFd) -> Result<PathBuf, PortError> {
    use std::os::fd::AsRawFd as _;
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::read_link(&link).map_err(|error| format!("cannot read {link}: {error}").into())
}

/// Unmounts every image of a container.
pub(super) fn unmount_all(run: &Path) -> Result<(), PortError> {
    let directory = run.join(IMAGES);
    let failed = |path: &Path, error: std::io::Error| {
        PortError::from(format!("cannot unmount {}: {error}", path.display()))
    };
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&directory, error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| failed(&directory, error))?.path();
        match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Not a mount (any more).
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(failed(&path, error.into())),
        }
        std::fs::remove_dir(&path).map_err(|error| failed(&path, error))?;
    }
    std::fs::remove_dir(&directory).map_err(|error| failed(&directory, error))
}

/// Makes a directory for a volume.
pub(super) fn make_volume(run: &Path, number: usize) -> Result<PathBuf, PortError> {
    let path = run.join(VOLUMES).join(number.to_string());
    make_dir(&path)?;
    Ok(path)
}

fn make_dir(path: &Path) -> Result<(), PortError> {
    let made = std::fs::create_dir_all(path);
    made.map_err(|error| format!("cannot make {}: {error}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmounting_nothing_is_done() {
        let run = tempfile::tempdir().unwrap();
        unmount_all(run.path()).unwrap();
        std::fs::create_dir_all(run.path().join(IMAGES).join("0")).unwrap();
        unmount_all(run.path()).unwrap();
        assert!(!run.path().join(IMAGES).exists());
    }
}
