//! The btrfs driver: each layer is a whole file tree, the subvolume `subvolumes/<id>`, that starts as a snapshot of the one
//! below.
//!
//! Equal content is shared by all layers of a stack. Files cannot be renamed from one subvolume to another, so what an upper
//! layer adds is moved into its snapshot by sharing extents; a base layer is renamed as a whole.

use super::home::PrivateHome;
use super::tree::{
    ADDED, Homes, TreeDriver, WHOLE, copy_tree, make_dir, merge, open_directory, strip,
};
use super::{DriverError, LayerUse, RootMode, accept_missing, layers_in};
use crate::LayerId;
use crate::staging::remove_tree;
use crate::store::options::BtrfsOptions;
use crioxide_sys::btrfs;
use rustix::fs::{CWD, Mode};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Below a home: all layers.
const LAYERS: &str = "subvolumes";
/// Below the home: a file per limited layer, with its limit in bytes.
const QUOTAS: &str = "quotas";
/// BTRFS_SUPER_MAGIC.
const MAGIC: u64 = 0x9123_683e;

/// Subvolumes below one or two homes.
#[derive(Debug)]
pub(crate) struct Btrfs {
    homes: Homes,
    private_home: PrivateHome,
    options: BtrfsOptions,
}

impl Btrfs {
    /// Makes the homes if they are not there. They must be on btrfs.
    pub(crate) fn open(
        home: PathBuf,
        image_home: PathBuf,
        foreign: Vec<PathBuf>,
        options: BtrfsOptions,
    ) -> Result<Self, DriverError> {
        let homes = Homes {
            home,
            image_home,
            foreign,
            folder: LAYERS,
        };
        for home in [&homes.home, &homes.image_home] {
            let root = home.parent().unwrap_or(home);
            let status = rustix::fs::statfs(root)
                .map_err(|error| DriverError::io("ask the file system of", root, error))?;
            if status.f_type as u64 & 0xffff_ffff != MAGIC {
                return Err(DriverError::FileSystem {
                    driver: "btrfs",
                    path: root.to_owned(),
                });
            }
        }
        homes.make()?;
        if options.quotas {
            let enabled = open_directory(CWD, &homes.home).and_then(btrfs::enable_quotas);
            enabled.map_err(|error| DriverError::io("turn quotas on for", &homes.home, error))?;
        }
        Ok(Self {
            private_home: PrivateHome::new(homes.home.clone()),
            homes,
            options,
        })
    }
}

impl TreeDriver for Btrfs {
    fn homes(&self) -> &Homes {
        &self.homes
    }

    fn prepare(&self, staged: &Path, layer_use: LayerUse) -> Result<(), DriverError> {
        make_dir(staged, 0o700)?;
        // A container's layer is a snapshot and nothing else; each subvolume costs a flush.
        if layer_use == LayerUse::Container {
            return Ok(());
        }
        create(&staged.join(ADDED))
    }

    fn stack(
        &self,
        staged: &Path,
        parent: Option<&LayerId>,
        root: RootMode,
    ) -> Result<(), DriverError> {
        let (added, whole) = (staged.join(ADDED), staged.join(WHOLE));
        let has_content = added.is_dir();
        let Some(parent) = parent else {
            if !has_content {
                return create(&whole);
            }
            return fs::rename(&added, &whole)
                .and_then(|()| strip(&whole))
                .map_err(|error| DriverError::io("make the base layer of", added, error));
        };
        let below = self.homes.content(parent)?;
        match snapshot(&below, &whole) {
            // From a read-only store elsewhere, or one that was copied there as plain directories.
            Err(error) if is_no_source(&error) => {
                create(&whole)?;
                copy_tree(&below, &whole)
            }
            other => other,
        }
        .map_err(|error| DriverError::io("take a snapshot of", below, error))?;
        if !has_content {
            return Ok(());
        }
        merge(&added, &whole, root == RootMode::Own)
            .map_err(|error| DriverError::io("apply the layer's changes to", whole, error))?;
        remove_tree(&added)
            .map_err(|error| DriverError::io("remove", added, io::Error::other(error)))
    }

    /// Notes the limit as containers/storage does.
    fn limit(&self, whole: &Path, id: &LayerId) -> Result<(), DriverError> {
        let Some(size) = self.options.size else {
            return Ok(());
        };
        let limited =
            open_directory(CWD, whole).and_then(|layer| btrfs::limit_subvolume(layer, size));
        limited.map_err(|error| DriverError::io("limit the size of", whole, error))?;
        let quotas = self.homes.home.join(QUOTAS);
        let noted = match make_dir(&quotas, 0o700) {
            Err(DriverError::Io { source, .. })
                if source.kind() != io::ErrorKind::AlreadyExists =>
            {
                Err(source)
            }
            _ => fs::write(quotas.join(id), size.to_string()),
        };
        noted.map_err(|error| DriverError::io("write the limit to", quotas.join(id), error))
    }

    fn forget_limit(&self, id: &LayerId) -> Result<(), DriverError> {
        let quota = self.homes.home.join(QUOTAS).join(id);
        accept_missing(fs::remove_file(&quota))
            .map_err(|error| DriverError::io("remove", quota, error))
    }

    fn before_mount(&self) -> Result<(), DriverError> {
        self.private_home.ensure()
    }

    fn remove_strays(&self) -> Result<(), DriverError> {
        // A limit is noted before its layer is there.
        let layers = self.homes.list()?;
        let quotas = self.homes.home.join(QUOTAS);
        if !quotas.is_dir() {
            return Ok(());
        }
        for noted in layers_in(&quotas)? {
            if !layers.contains(&noted) {
                self.forget_limit(&noted)?;
            }
        }
        Ok(())
    }

    fn shut_down(&self) -> Result<(), DriverError> {
        self.private_home.release()
    }
}

/// Makes a subvolume with the mode of roots that nobody set another for.
fn create(path: &Path) -> Result<(), DriverError> {
    let made = in_its_directory(path, |directory, name| {
        btrfs::create_subvolume(directory, name)?;
        let mode = Mode::from_raw_mode(0o555);
        Ok(rustix::fs::chmodat(
            directory,
            name,
            mode,
            rustix::fs::AtFlags::empty(),
        )?)
    });
    made.map_err(|error| DriverError::io("make the subvolume", path, error))
}

fn snapshot(source: &Path, path: &Path) -> io::Result<()> {
    let source = open_directory(CWD, source)?;
    in_its_directory(path, |directory, name| {
        btrfs::snapshot(directory, name, &source)
    })
}

fn is_no_source(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::XDEV | Errno::INVAL)
    )
}

fn in_its_directory(
    path: &Path,
    act: impl FnOnce(&std::os::fd::OwnedFd, &std::ffi::CStr) -> io::Result<()>,
) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let name = CString::new(name.as_bytes())?;
    act(&open_directory(CWD, parent)?, &name)
}
