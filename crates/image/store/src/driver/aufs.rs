//! The aufs driver: one directory per layer, stacked by aufs when mounted, in the layout of containers/storage.
//!
//! `diff` has what each layer adds, with white-outs by name, `layers` a file per layer with the ids of those below, nearest
//! first, and `mnt` the mount points. Few kernels have aufs: where it is not, a store of this kind is not opened.

mod branches;

use super::home::PrivateHome;
use super::tree::{make_dir, to_aufs};
use super::{
    Driver, DriverError, LayerContent, LayerUse, RootMode, accept_missing, layers_in, move_away,
    move_in, sync_directory,
};
use crate::layers::id::is_hex_id;
use crate::staging::remove_tree;
use crate::store::options::AufsOptions;
use crate::{LayerId, MountAccess, MountIds, MountOptions};
use crioxide_files::read_to_string_limited;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use std::ffi::CString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Below the home: what layers add, what is below them, and where they are mounted.
const ADDED: &str = "diff";
const BELOW: &str = "layers";
const MOUNTS: &str = "mnt";
/// Behind the name of what containers/storage was removing.
const REMOVING: &str = "-removing";
/// Bytes of a file with the ids of layers below.
const MOST: u64 = 1 << 20;

/// Layers below one home.
#[derive(Debug)]
pub(crate) struct Aufs {
    home: PathBuf,
    options: AufsOptions,
    private_home: PrivateHome,
}

impl Aufs {
    /// Makes the home if it is not there.
    pub(crate) fn open(home: PathBuf, options: AufsOptions) -> Result<Self, DriverError> {
        for directory in [ADDED, BELOW, MOUNTS] {
            let directory = home.join(directory);
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&directory);
            made.map_err(|error| DriverError::io("make directory", directory, error))?;
        }
        Ok(Self {
            private_home: PrivateHome::new(home.clone()),
            home,
            options,
        })
    }

    fn added(&self, id: &LayerId) -> PathBuf {
        self.home.join(ADDED).join(id)
    }

    /// The layers below, nearest first.
    fn below(&self, id: &LayerId) -> Result<Vec<LayerId>, DriverError> {
        let path = self.home.join(BELOW).join(id);
        let text = match read_to_string_limited(&path, MOST) {
            Ok(text) => text,
            Err(error) => return Err(DriverError::io("read", path, io::Error::other(error))),
        };
        let ids = text.lines().filter(|line| !line.is_empty());
        ids.map(|line| {
            LayerId::parse(line).map_err(|error| DriverError::Damaged {
                id: id.to_string(),
                problem: format!("{}: {error}", path.display()),
            })
        })
        .collect()
    }
}

impl Driver for Aufs {
    fn prepare(&self, staged: &Path, _layer_use: LayerUse) -> Result<(), DriverError> {
        make_dir(staged, 0o700)?;
        make_dir(&staged.join(ADDED), 0o555)
    }

    fn stack(
        &self,
        staged: &Path,
        parent: Option<&LayerId>,
        root: RootMode,
    ) -> Result<(), DriverError> {
        let added = staged.join(ADDED);
        let mut below = String::new();
        if let Some(parent) = parent {
            for id in std::iter::once(parent).chain(&self.below(parent)?) {
                below.push_str(id.as_str());
                below.push('\n');
            }
            if root == RootMode::OfParent {
                let parent = self.added(parent);
                let taken = fs::metadata(&parent).and_then(|status| {
                    let mode = status.permissions().mode() & 0o7777;
                    fs::set_permissions(&added, Permissions::from_mode(mode))
                });
                taken.map_err(|error| DriverError::io("take the mode of", parent, error))?;
            }
        }
        to_aufs(&added).map_err(|error| DriverError::io("name the white-outs of", added, error))?;
        let path = staged.join(BELOW);
        fs::write(&path, below).map_err(|error| DriverError::io("write", path, error))
    }

    fn own_root(
        &self,
        staged: &Path,
        _parent: Option<&LayerId>,
        _ids: &MountIds,
    ) -> Result<(), DriverError> {
        Err(cannot_map(staged))
    }

    fn label(&self, _staged: &Path, _label: &str) -> Result<(), DriverError> {
        // Mounts have it (`context=`).
        Ok(())
    }

    fn staged_content(&self, staged: &Path) -> PathBuf {
        staged.join(ADDED)
    }

    fn staging_home(&self, _layer_use: LayerUse) -> PathBuf {
        self.home.join("tempdirs")
    }

    fn install(
        &self,
        staged: &Path,
        id: &LayerId,
        _layer_use: LayerUse,
    ) -> Result<(), DriverError> {
        let below = self.home.join(BELOW).join(id);
        fs::rename(staged.join(BELOW), &below)
            .map_err(|error| DriverError::io("move into place", below, error))?;
        let mount_point = self.mount_path(id);
        if !mount_point.is_dir() {
            make_dir(&mount_point, 0o755)?;
        }
        // Last: it makes the layer one.
        move_in(&staged.join(ADDED), &self.added(id))?;
        fs::remove_dir(staged).map_err(|error| DriverError::io("remove", staged, error))
    }

    fn flush(&self, _installed: &[LayerId]) -> Result<(), DriverError> {
        [ADDED, BELOW]
            .iter()
            .try_for_each(|directory| sync_directory(&self.home.join(directory)))
    }

    fn discard(&self, id: &LayerId, trash: &Path) -> Result<(), DriverError> {
        move_away(&self.added(id), trash)?;
        let (below, mount_point) = (self.home.join(BELOW).join(id), self.mount_path(id));
        accept_missing(fs::remove_file(&below))
            .map_err(|error| DriverError::io("remove", below, error))?;
        accept_missing(fs::remove_dir(&mount_point))
            .map_err(|error| DriverError::io("remove", mount_point, error))
    }

    fn content(&self, id: &LayerId) -> Result<LayerContent, DriverError> {
        let added = self.added(id);
        match added.is_dir() {
            true => Ok(LayerContent::at(added)),
            false => Err(DriverError::Damaged {
                id: id.to_string(),
                problem: format!("{} is missing", added.display()),
            }),
        }
    }

    fn mount_path(&self, id: &LayerId) -> PathBuf {
        self.home.join(MOUNTS).join(id)
    }

    fn mount_at(
        &self,
        id: &LayerId,
        target: &Path,
        options: &MountOptions,
    ) -> Result<(), DriverError> {
        if options.ids.is_some() {
            return Err(cannot_map(target));
        }
        self.private_home.ensure()?;
        let lowers: Vec<_> = self.below(id)?.iter().map(|id| self.added(id)).collect();
        let writable = options.access == MountAccess::ReadWrite;
        let mut flags = match writable {
            true => MountFlags::empty(),
            false => MountFlags::RDONLY,
        };
        let mut further = Vec::new();
        for option in self.options.mount_options.iter().chain(&options.options) {
            match option.as_str() {
                "rw" | "dev" | "suid" | "exec" | "atime" | "relatime" | "" => {}
                "ro" => flags |= MountFlags::RDONLY,
                "nodev" => flags |= MountFlags::NODEV,
                "nosuid" => flags |= MountFlags::NOSUID,
                "noexec" => flags |= MountFlags::NOEXEC,
                "noatime" => flags |= MountFlags::NOATIME,
                other => further.push(other.to_owned()),
            }
        }
        let top = self.added(id);
        let all = branches::options(&top, writable, &lowers, &further, &options.mount_label);
        let fail = |error: io::Error| DriverError::io("mount aufs at", target, error);
        for (index, data) in all.into_iter().enumerate() {
            let data = CString::new(data).map_err(|error| fail(error.into()))?;
            let data = data.as_c_str();
            let mounted = match index {
                0 => mount("none", target, "aufs", flags, Some(data)),
                _ => mount_remount(target, flags, data),
            };
            if let Err(error) = mounted {
                if index > 0 {
                    let _ = unmount(target, UnmountFlags::DETACH);
                }
                return Err(fail(error.into()));
            }
        }
        Ok(())
    }

    fn unmount(&self, id: &LayerId) -> Result<(), DriverError> {
        let path = self.mount_path(id);
        match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
            Err(error) => Err(DriverError::io("unmount", path, error)),
        }
    }

    fn list(&self) -> Result<Vec<LayerId>, DriverError> {
        layers_in(&self.home.join(ADDED))
    }

    fn remove_strays(&self) -> Result<(), DriverError> {
        for folder in [ADDED, BELOW, MOUNTS] {
            let folder = self.home.join(folder);
            let fail = |error| DriverError::io("list", &folder, error);
            for entry in fs::read_dir(&folder).map_err(fail)? {
                let entry = entry.map_err(fail)?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let lone = is_hex_id(&name) && !self.home.join(ADDED).join(&*name).is_dir();
                if lone || name.ends_with(REMOVING) {
                    let path = entry.path();
                    remove_tree(&path).map_err(|error| {
                        DriverError::io("remove", path, io::Error::other(error))
                    })?;
                }
            }
        }
        Ok(())
    }

    fn examine(&self, id: &LayerId) -> Vec<String> {
        if let Err(error) = self.content(id) {
            return vec![format!("its directory is missing: {error}")];
        }
        match self.below(id) {
            Err(error) => vec![error.to_string()],
            Ok(below) => below
                .iter()
                .filter(|id| !self.added(id).is_dir())
                .map(|id| format!("the layer below, {id}, is missing"))
                .collect(),
        }
    }

    fn shut_down(&self) -> Result<(), DriverError> {
        self.private_home.release()
    }
}

fn cannot_map(path: &Path) -> DriverError {
    DriverError::Unusable {
        driver: "aufs",
        problem: format!(
            "it maps no ids, as a user namespace needs for {}",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat};

    /// Makes a layer with what `fill` writes to it.
    fn layer(aufs: &Aufs, parent: Option<&LayerId>, fill: impl FnOnce(&Path)) -> LayerId {
        let staged = aufs.home.join("staged");
        aufs.prepare(&staged, LayerUse::Image).unwrap();
        fill(&aufs.staged_content(&staged));
        aufs.stack(&staged, parent, RootMode::OfParent).unwrap();
        let id = LayerId::generate();
        aufs.install(&staged, &id, LayerUse::Image).unwrap();
        assert!(!staged.exists());
        id
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_layout_is_that_of_containers_storage() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let aufs = Aufs::open(directory.path().join("aufs"), AufsOptions::default()).unwrap();
        let base = layer(&aufs, None, |added| {
            fs::create_dir_all(added.join("dir/old")).unwrap();
            fs::write(added.join("gone"), "").unwrap();
        });
        let middle = layer(&aufs, Some(&base), |added| {
            let (kind, mode) = (FileType::CharacterDevice, Mode::empty());
            mknodat(CWD, added.join("gone"), kind, mode, 0).unwrap();
            fs::create_dir(added.join("dir")).unwrap();
            let opaque = "trusted.overlay.opaque";
            rustix::fs::lsetxattr(added.join("dir"), opaque, b"y", XattrFlags::empty()).unwrap();
            fs::write(added.join("dir/new"), "new").unwrap();
        });
        let top = layer(&aufs, Some(&middle), |_| {});
        let home = directory.path().join("aufs");
        let below = |id: &LayerId| fs::read_to_string(home.join("layers").join(id)).unwrap();
        assert_eq!(below(&base), "");
        assert_eq!(below(&top), format!("{middle}\n{base}\n"));
        let added = home.join("diff").join(&middle);
        assert_eq!(names(&added), [".wh.gone", "dir"]);
        assert_eq!(names(&added.join("dir")), [".wh..wh..opq", "new"]);
        assert!(home.join("mnt").join(&top).is_dir());
        assert!(aufs.examine(&top).is_empty());
        // This kernel hardly has aufs: what it is asked for is right up to there.
        if !fs::read_to_string("/proc/filesystems")
            .unwrap()
            .contains("aufs")
        {
            aufs.private_home.ensure().unwrap();
            let error = aufs.mount(&top, &MountOptions::default()).unwrap_err();
            let DriverError::Io { source, path, .. } = error else {
                panic!("{error}");
            };
            assert_eq!(Errno::from_io_error(&source), Some(Errno::NODEV));
            assert_eq!(path, home.join("mnt").join(&top));
        }

        let trash = home.join("trash");
        aufs.discard(&base, &trash).unwrap();
        assert!(trash.join("gone").exists());
        let problems = aufs.examine(&top);
        assert!(problems[0].contains(base.as_str()), "{problems:?}");
        let lone = LayerId::generate();
        fs::write(home.join("layers").join(&lone), "").unwrap();
        fs::create_dir(home.join("mnt").join(format!("{lone}-removing"))).unwrap();
        aufs.remove_strays().unwrap();
        let mut kept = [middle.to_string(), top.to_string()];
        kept.sort();
        for folder in ["diff", "layers", "mnt"] {
            assert_eq!(names(&home.join(folder)), kept);
        }
        aufs.shut_down().unwrap();
    }
}
