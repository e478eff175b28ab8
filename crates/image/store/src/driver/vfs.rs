//! The vfs driver: each layer is a whole file tree of its own, `dir/<id>`, that starts as a copy of the one below.
//!
//! It works on every file system and needs no kernel feature, at the price of a copy per layer (shared extents where the
//! file system can). A layer is unpacked aside in overlay form, as for every driver, and merged into the copy when it is
//! stacked. A mounted layer is its own directory, bound onto itself with the attributes that were asked for.

mod copy;
mod file_system;
mod merge;

use self::file_system::open_directory;
use super::{Driver, DriverError, LayerUse, RootMode, layers_in, move_away, move_in};
use crate::{LayerId, MountAccess, MountIds, MountOptions};
use crioxide_sys::mount_attributes::{MountChange, Reach};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount,
};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Below a home: all layers.
const LAYERS: &str = "dir";
/// In a prepared layer: what its tar adds, in overlay form.
const ADDED: &str = "diff";
/// In a stacked layer: all that it shows.
const WHOLE: &str = "tree";

/// Trees below one or two homes.
#[derive(Debug)]
pub(crate) struct Vfs {
    home: PathBuf,
    image_home: PathBuf,
    /// Homes of read-only stores, searched last.
    foreign_homes: Vec<PathBuf>,
}

impl Vfs {
    /// Makes the homes if they are not there.
    pub(crate) fn open(
        home: PathBuf,
        image_home: PathBuf,
        foreign_homes: Vec<PathBuf>,
    ) -> Result<Self, DriverError> {
        for home in [&home, &image_home] {
            let layers = home.join(LAYERS);
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&layers);
            made.map_err(|error| DriverError::io("make directory", layers, error))?;
        }
        Ok(Self {
            home,
            image_home,
            foreign_homes,
        })
    }

    fn own_homes(&self) -> impl Iterator<Item = &Path> {
        let image_home = Some(self.image_home.as_path()).filter(|home| *home != self.home);
        std::iter::once(self.home.as_path()).chain(image_home)
    }

    fn find(&self, id: &LayerId) -> Option<PathBuf> {
        let foreign = self.foreign_homes.iter().map(PathBuf::as_path);
        self.own_homes()
            .chain(foreign)
            .map(|home| home.join(LAYERS).join(id))
            .find(|path| path.is_dir())
    }

    fn home_for(&self, layer_use: LayerUse) -> &Path {
        match layer_use {
            LayerUse::Image => &self.image_home,
            LayerUse::Container => &self.home,
        }
    }
}

impl Driver for Vfs {
    fn prepare(&self, staged: &Path) -> Result<(), DriverError> {
        make_dir(staged, 0o700)?;
        make_dir(&staged.join(ADDED), 0o555)
    }

    fn stack(
        &self,
        staged: &Path,
        parent: Option<&LayerId>,
        root: RootMode,
    ) -> Result<(), DriverError> {
        let (added, whole) = (staged.join(ADDED), staged.join(WHOLE));
        make_dir(&whole, 0o700)?;
        let fail = |action| {
            let whole = whole.clone();
            move |error: io::Error| DriverError::io(action, whole, error)
        };
        if let Some(parent) = parent {
            let below = self.content(parent)?;
            copy::copy_tree(&below, &whole).map_err(fail("copy the layer below to"))?;
        }
        // Without a layer below there is nobody else to take the root's metadata from.
        let take_root = root == RootMode::Own || parent.is_none();
        merge::merge(&added, &whole, take_root).map_err(fail("apply the layer's changes to"))?;
        fs::remove_dir_all(&added).map_err(|error| DriverError::io("remove", added, error))
    }

    fn own_root(
        &self,
        _staged: &Path,
        _parent: Option<&LayerId>,
        _ids: &MountIds,
    ) -> Result<(), DriverError> {
        // The whole tree is mounted with mapped ids, its root included.
        Ok(())
    }

    fn staged_content(&self, staged: &Path) -> PathBuf {
        staged.join(ADDED)
    }

    fn staging_home(&self, layer_use: LayerUse) -> PathBuf {
        self.home_for(layer_use).join("tempdirs")
    }

    fn install(&self, staged: &Path, id: &LayerId, layer_use: LayerUse) -> Result<(), DriverError> {
        let (whole, target) = (staged.join(WHOLE), self.home_for(layer_use).join(LAYERS));
        let target = target.join(id);
        move_in(&whole, &target)?;
        fs::remove_dir(staged).map_err(|error| DriverError::io("remove", staged, error))
    }

    fn discard(&self, id: &LayerId, trash: &Path) -> Result<(), DriverError> {
        for home in self.own_homes() {
            move_away(&home.join(LAYERS).join(id), trash)?;
        }
        Ok(())
    }

    fn content(&self, id: &LayerId) -> Result<PathBuf, DriverError> {
        self.find(id).ok_or_else(|| DriverError::Damaged {
            id: id.to_string(),
            problem: format!("{} is missing", self.home.join(LAYERS).join(id).display()),
        })
    }

    fn mount_path(&self, id: &LayerId) -> PathBuf {
        self.find(id)
            .unwrap_or_else(|| self.home.join(LAYERS).join(id))
    }

    fn mount(&self, id: &LayerId, options: &MountOptions) -> Result<(), DriverError> {
        self.mount_at(id, &self.mount_path(id), options)
    }

    fn mount_at(
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

    fn unmount(&self, id: &LayerId) -> Result<(), DriverError> {
        let path = self.mount_path(id);
        match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
            Err(error) => Err(DriverError::io("unmount", path, error)),
        }
    }

    fn list(&self) -> Result<Vec<LayerId>, DriverError> {
        let mut layers = Vec::new();
        for home in self.own_homes() {
            layers.extend(layers_in(&home.join(LAYERS))?);
        }
        Ok(layers)
    }

    fn examine(&self, id: &LayerId) -> Vec<String> {
        match self.content(id) {
            Ok(_) => Vec::new(),
            Err(_) => vec!["its directory is missing".into()],
        }
    }

    fn shut_down(&self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// What the mount is to be like. Its label cannot be had: a bound mount has the labels of its files.
fn attributes(id: &LayerId, options: &MountOptions) -> Result<MountAttrFlags, DriverError> {
    let unsupported = |option: &str| DriverError::MountOption {
        id: id.to_string(),
        option: option.to_owned(),
    };
    if !options.mount_label.is_empty() {
        return Err(unsupported(&format!("context={}", options.mount_label)));
    }
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
    let tree = open_tree(CWD, content, flags)?;
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
        change.apply(&tree, Reach::Single)?;
    }
    let place = open_directory(CWD, target)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(&tree, "", &place, "", flags)?)
}

fn make_dir(path: &Path, mode: u32) -> Result<(), DriverError> {
    let made = DirBuilder::new().mode(mode).create(path);
    made.map_err(|error| DriverError::io("make directory", path, error))
}
