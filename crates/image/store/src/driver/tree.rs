//! Layers that are whole file trees, each a directory of its own: what the drivers vfs and btrfs share.
//!
//! A layer is unpacked aside in overlay form, as for every driver, and merged into a copy of the layer below when it is
//! stacked. A mounted layer is its own directory, bound onto itself with the attributes that were asked for.

mod aufs;
mod copy;
mod driver;
mod file_system;
mod label;
mod merge;

pub(super) use self::aufs::to_aufs;
pub(super) use self::copy::copy_tree;
pub(super) use self::driver::TreeDriver;
pub(super) use self::file_system::open_directory;
pub(super) use self::label::label;
pub(super) use self::merge::{merge, strip};

use super::{DriverError, LayerUse, layers_in, move_away, move_in};
use crate::{LayerId, MountAccess, MountIds, MountOptions};
use crioxide_sys::mount_attributes::{MountChange, Reach};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount,
};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// In a prepared layer: what its tar adds, in overlay form.
pub(super) const ADDED: &str = "diff";
/// In a stacked layer: all that it shows.
pub(super) const WHOLE: &str = "tree";

/// Where trees are kept: one or two homes, and those of read-only stores, which are searched last.
#[derive(Debug)]
pub(super) struct Homes {
    pub(super) home: PathBuf,
    pub(super) image_home: PathBuf,
    pub(super) foreign: Vec<PathBuf>,
    /// Below a home: the directory with all layers.
    pub(super) folder: &'static str,
}

impl Homes {
    /// Makes the homes if they are not there.
    pub(super) fn make(&self) -> Result<(), DriverError> {
        for home in [&self.home, &self.image_home] {
            let layers = home.join(self.folder);
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&layers);
            made.map_err(|error| DriverError::io("make directory", layers, error))?;
        }
        Ok(())
    }

    pub(super) fn staging(&self, layer_use: LayerUse) -> PathBuf {
        self.home_for(layer_use).join("tempdirs")
    }

    /// Makes the tree of a stacked layer the layer `id`.
    pub(super) fn install(
        &self,
        staged: &Path,
        id: &LayerId,
        layer_use: LayerUse,
    ) -> Result<(), DriverError> {
        let layers = self.home_for(layer_use).join(self.folder);
        move_in(&staged.join(WHOLE), &layers.join(id))?;
        fs::remove_dir(staged).map_err(|error| DriverError::io("remove", staged, error))
    }

    /// Content of images is made of copies after they were synced: now those are.
    pub(super) fn flush(&self) -> Result<(), DriverError> {
        let layers = self.home_for(LayerUse::Image).join(self.folder);
        let synced = open_directory(CWD, &layers).and_then(|at| Ok(rustix::fs::syncfs(&at)?));
        synced.map_err(|error| DriverError::io("sync the file system of", layers, error))
    }

    pub(super) fn discard(&self, id: &LayerId, trash: &Path) -> Result<(), DriverError> {
        for home in self.own() {
            move_away(&home.join(self.folder).join(id), trash)?;
        }
        Ok(())
    }

    pub(super) fn content(&self, id: &LayerId) -> Result<PathBuf, DriverError> {
        self.find(id).ok_or_else(|| DriverError::Damaged {
            id: id.to_string(),
            problem: format!("{} is missing", self.own_path(id).display()),
        })
    }

    pub(super) fn mount_path(&self, id: &LayerId) -> PathBuf {
        self.find(id).unwrap_or_else(|| self.own_path(id))
    }

    pub(super) fn mount_at(
        &self,
        id: &LayerId,
        target: &Path,
        options: &MountOptions,
    ) -> Result<(), DriverError> {
        let change = attributes(id, options)?;
        let content = self.content(id)?;
        bind(&content, target, change, options.ids.as_ref())
            .map_err(|error| DriverError::io("mount the layer at", target, error))
    }

    pub(super) fn unmount(&self, id: &LayerId) -> Result<(), DriverError> {
        let path = self.mount_path(id);
        match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
            Err(error) => Err(DriverError::io("unmount", path, error)),
        }
    }

    pub(super) fn list(&self) -> Result<Vec<LayerId>, DriverError> {
        let mut layers = Vec::new();
        for home in self.own() {
            layers.extend(layers_in(&home.join(self.folder))?);
        }
        Ok(layers)
    }

    pub(super) fn examine(&self, id: &LayerId) -> Vec<String> {
        match self.content(id) {
            Ok(_) => Vec::new(),
            Err(_) => vec!["its directory is missing".into()],
        }
    }

    fn own(&self) -> impl Iterator<Item = &Path> {
        let image_home = Some(self.image_home.as_path()).filter(|home| *home != self.home);
        std::iter::once(self.home.as_path()).chain(image_home)
    }

    fn find(&self, id: &LayerId) -> Option<PathBuf> {
        let foreign = self.foreign.iter().map(PathBuf::as_path);
        self.own()
            .chain(foreign)
            .map(|home| home.join(self.folder).join(id))
            .find(|path| path.is_dir())
    }

    fn own_path(&self, id: &LayerId) -> PathBuf {
        self.home.join(self.folder).join(id)
    }

    fn home_for(&self, layer_use: LayerUse) -> &Path {
        match layer_use {
            LayerUse::Image => &self.image_home,
            LayerUse::Container => &self.home,
        }
    }
}

/// What the mount is to be like. Its label is not among it: a bound mount has the labels of its files.
pub(super) fn attributes(
    id: &LayerId,
    options: &MountOptions,
) -> Result<MountAttrFlags, DriverError> {
    let unsupported = |option: &str| DriverError::MountOption {
        id: id.to_string(),
        option: option.to_owned(),
    };
    let mut set = match options.access {
        MountAccess::ReadOnly => MountAttrFlags::MOUNT_ATTR_RDONLY,
        MountAccess::ReadWrite => MountAttrFlags::empty(),
    };
    for option in &options.options {
        set |= match option.as_str() {
            "rw" | "dev" | "suid" | "exec" | "relatime" | "atime" | "" => continue,
            "ro" => MountAttrFlags::MOUNT_ATTR_RDONLY,
            "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
            "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
            "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "noatime" => MountAttrFlags::MOUNT_ATTR_NOATIME,
            other => return Err(unsupported(other)),
        };
    }
    Ok(set)
}

fn bind(
    content: &Path,
    target: &Path,
    set: MountAttrFlags,
    ids: Option<&MountIds>,
) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    attach(&open_tree(CWD, content, flags)?, target, set, ids)
}

/// Mounts a tree that is in no directory at `target`.
pub(super) fn attach(
    tree: &OwnedFd,
    target: &Path,
    set: MountAttrFlags,
    ids: Option<&MountIds>,
) -> io::Result<()> {
    let clear = match set.contains(MountAttrFlags::MOUNT_ATTR_NOATIME) {
        true => MountAttrFlags::MOUNT_ATTR__ATIME,
        false => MountAttrFlags::empty(),
    };
    let mut change = MountChange::new();
    if !set.is_empty() {
        change = change.attributes(set, clear);
    }
    let namespace = ids
        .map(|ids| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            rustix::fs::open(&ids.namespace, flags, Mode::empty())
        })
        .transpose()?;
    if let Some(namespace) = &namespace {
        change = change.id_mapped_by(namespace.as_fd());
    }
    if !change.is_empty() {
        change.apply(tree, Reach::Single)?;
    }
    let place = open_directory(CWD, target)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", &place, "", flags)?)
}

pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), DriverError> {
    let made = DirBuilder::new().mode(mode).create(path);
    made.map_err(|error| DriverError::io("make directory", path, error))
}
