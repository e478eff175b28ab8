//! Containers with a user namespace: the layers below are seen through a mount with mapped ids, so nothing is copied.
//!
//! One mapped copy of a home's mount serves all layers in it, however many there are, and is gone when the overlay is
//! mounted. Where the kernel or the file system cannot map ids, the owners are changed instead (`chown.rs`).

use super::mount::{Interface, OverlayMount};
use super::{Overlay, chown};
use crate::driver::DriverError;
use crate::mounts::MountIds;
use crate::{LayerId, MountAccess};
use crioxide_sys::mount_attributes::{MountChange, Reach};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};
use rustix::thread::UnshareFlags;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// As containers/storage has it: no mapped mounts, for tests and for kernels that only pretend to have them.
const DISABLE: &str = "_CONTAINERS_OVERLAY_DISABLE_IDMAP";

/// A home with the detached mount through which its files have mapped owners.
struct MappedHome {
    home: PathBuf,
    mount: OwnedFd,
}

impl Overlay {
    /// Mounts with owners as the user namespace of `ids` sees them.
    pub(super) fn mount_mapped(
        &self,
        id: &LayerId,
        mount: &OverlayMount,
        ids: &MountIds,
        access: MountAccess,
    ) -> io::Result<()> {
        let mapped = match self.map_homes(mount, ids) {
            Ok(homes) => by_mapped_homes(mount, &homes, self.interface),
            Err(error) => Err(error),
        };
        let reason = match mapped {
            Err(error) if unsupported(&error) => error,
            other => return other,
        };
        tracing::warn!(
            "Layer {id} cannot be mounted with mapped ids ({reason}): owners are changed one by one"
        );
        match access {
            MountAccess::ReadWrite => chown::mount_and_chown(mount, ids, self.interface),
            // Nothing of it can be changed; its files belong to nobody then.
            MountAccess::ReadOnly => mount.mount(self.interface),
        }
    }

    fn map_homes(&self, mount: &OverlayMount, ids: &MountIds) -> io::Result<Vec<MappedHome>> {
        if std::env::var(DISABLE).is_ok_and(|value| value == "yes") {
            let message = format!("disabled by {DISABLE}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        let namespace = open(
            &ids.namespace,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let uses = |home: &Path| {
            mount.lowers.iter().any(|lower| {
                let lower = mount.home.join(lower);
                lower.starts_with(home)
            })
        };
        self.homes()
            .filter(|home| uses(home))
            .map(|home| {
                let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
                let tree = open_tree(CWD, home, flags)?;
                MountChange::new()
                    .id_mapped_by(namespace.as_fd())
                    .apply(&tree, Reach::Single)?;
                Ok(MappedHome {
                    home: home.to_owned(),
                    mount: tree,
                })
            })
            .collect()
    }
}

/// Errors that say that this kernel or file system has no mapped mounts, or none below an overlay.
fn unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let known = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP].map(Errno::raw_os_error);
    error.kind() == io::ErrorKind::Unsupported
        || error.kind() == io::ErrorKind::InvalidInput
        || error
            .raw_os_error()
            .is_some_and(|number| known.contains(&number))
}

fn by_mapped_homes(
    mount: &OverlayMount,
    homes: &[MappedHome],
    interface: Interface,
) -> io::Result<()> {
    // Since Linux 6.15 a detached mount can be the place of a layer.
    let direct = OverlayMount {
        lowers: mount
            .lowers
            .iter()
            .map(|lower| through_descriptor(&mount.home.join(lower), homes))
            .collect(),
        ..mount.clone()
    };
    if interface == Interface::Best {
        match direct.mount(interface) {
            Err(error) if unsupported(&error) => {}
            other => return other,
        }
    }
    let merged = std::thread::scope(|scope| {
        scope
            .spawn(|| in_namespace_of_its_own(mount, homes, interface))
            .join()
    });
    let merged =
        merged.unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))?;
    attach(&merged, &mount.home.join(&mount.target))
}

fn through_descriptor(lower: &Path, homes: &[MappedHome]) -> PathBuf {
    let found = homes
        .iter()
        .find_map(|home| Some((home, lower.strip_prefix(&home.home).ok()?)));
    match found {
        Some((home, inner)) => descriptor_path(&home.mount).join(inner),
        None => lower.to_owned(),
    }
}

fn descriptor_path(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Attaches the mapped mounts over the homes where only this thread sees it, mounts there, and takes the result out.
fn in_namespace_of_its_own(
    mount: &OverlayMount,
    homes: &[MappedHome],
    interface: Interface,
) -> io::Result<OwnedFd> {
    crioxide_sys::namespaces::unshare(UnshareFlags::NEWNS)?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    // What is written to keeps its own owners, so it is reached beside the mapped mount.
    let own = open(
        &mount.home,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    for home in homes {
        attach(&home.mount, &home.home)?;
    }
    let beside = |path: &PathBuf| match mount.home.join(path).strip_prefix(&mount.home) {
        Ok(inner) => descriptor_path(&own).join(inner),
        Err(_) => path.clone(),
    };
    let target = mount.home.join(&mount.target);
    let inside = OverlayMount {
        writable: mount
            .writable
            .as_ref()
            .map(|(upper, work)| (beside(upper), beside(work))),
        target: target.clone(),
        ..mount.clone()
    };
    inside.mount(interface)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(CWD, &target, flags)?)
}

fn attach(mount: &OwnedFd, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(mount, "", CWD, target, flags)?)
}

/// Gives a new container layer's root to the owner that the layer below has, as the container sees it.
pub(super) fn own_root(
    content: &Path,
    below: Option<&Path>,
    ids: &MountIds,
) -> Result<(), DriverError> {
    use std::os::unix::fs::MetadataExt;
    let (uid, gid) = match below {
        Some(below) => {
            let status = std::fs::metadata(below)
                .map_err(|error| DriverError::io("look at", below, error))?;
            (status.uid(), status.gid())
        }
        None => (0, 0),
    };
    let owner = (ids.uid(uid).or(ids.uid(0)), ids.gid(gid).or(ids.gid(0)));
    std::os::unix::fs::chown(content, owner.0, owner.1)
        .map_err(|error| DriverError::io("set the owner of", content, error))
}
