//! Opening a store, and what all its operations share.

mod choice;
pub(crate) mod conf;
pub(crate) mod layout;
pub(crate) mod options;

use crate::driver::aufs::Aufs;
use crate::driver::btrfs::Btrfs;
use crate::driver::devicemapper::Devicemapper;
use crate::driver::overlay::Overlay;
use crate::driver::vfs::Vfs;
use crate::driver::{Driver, DriverError, LayerUse};
use crate::record::{ContainerRecord, ImageRecord, LayerRecord, MountRecord};
use crate::records::{RecordFile, Records, RecordsError};
use crate::staging::reaper::Reaper;
use crate::staging::{StagingArea, StagingError};
use crate::store::layout::Layout;
use crate::store::options::{
    AufsOptions, BtrfsOptions, DevicemapperOptions, DriverOptionError, OverlayOptions, VfsOptions,
};
use crate::{LayerError, StoreOptions};
use crioxide_files::{LockAccess, RecordLock, Sync};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Images, layers and containers below one graph root and run root, shared with other processes.
///
/// Open it once and share it: all methods take `&self` and may run in any number of threads. Every method that reads or
/// writes records may wait for another process that holds a lock.
#[derive(Debug)]
pub struct Store {
    pub(crate) layout: Layout,
    pub(crate) driver: Box<dyn Driver>,
    pub(crate) graph_lock: RecordLock,
    /// Mounts that are held.
    pub(crate) holds: Arc<AtomicUsize>,
    pub(crate) layers: Records<LayerRecord>,
    pub(crate) images: Records<ImageRecord>,
    pub(crate) containers: Records<ContainerRecord>,
    pub(crate) mounts: Records<MountRecord>,
    pub(crate) foreign: Vec<ForeignStore>,
    container_staging: StagingArea,
    image_staging: Option<StagingArea>,
    pub(crate) reaper: Reaper,
    partial_images: bool,
    /// For files beside the records, which may be on another mount than the layers.
    pub(crate) file_staging: StagingArea,
}

/// The records of a read-only store that is searched after the own one.
#[derive(Debug)]
pub(crate) struct ForeignStore {
    pub(crate) layout: Layout,
    pub(crate) layers: Records<LayerRecord>,
    pub(crate) images: Records<ImageRecord>,
}

/// Numbers of the files within each [`Records`].
pub(crate) const STABLE: usize = 0;
pub(crate) const VOLATILE: usize = 1;
pub(crate) const IMAGE_STORE: usize = 2;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The driver is known but cannot be used, or is not known at all. Its store is left as it is.
    #[error("storage driver {driver}: {reason}")]
    UnsupportedDriver {
        /// Its name.
        driver: String,
        /// Why.
        reason: &'static str,
    },
    /// Several drivers have something in the store, and none is configured.
    #[error("{root} has been used with several storage drivers, {drivers}: one must be configured")]
    SeveralDrivers {
        /// The graph root.
        root: PathBuf,
        /// Their names.
        drivers: String,
    },
    /// A driver option cannot be used.
    #[error(transparent)]
    Option(#[from] DriverOptionError),
    /// A root directory could not be made.
    #[error("make directory {path}")]
    MakeDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The driver could not prepare its directories.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// What an interrupted operation left could not be removed.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The records could not be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Half-made layers could not be removed.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

impl Store {
    /// Opens a store, creating it if the roots are empty, and removes what interrupted operations left.
    pub fn open(options: StoreOptions) -> Result<Self, OpenError> {
        let layout = layout(&options)?;
        for root in [
            Some(&layout.graph_root),
            Some(&layout.run_root),
            layout.image_store.as_ref(),
        ]
        .into_iter()
        .flatten()
        {
            make_dir_all(root)?;
        }
        let mut foreign_roots = options.additional_image_stores;
        let driver = driver(&layout, &options.driver_options, &mut foreign_roots)?;
        let image_staging = layout
            .image_store
            .as_ref()
            .map(|_| StagingArea::new(driver.staging_home(LayerUse::Image)));
        let store = Self {
            graph_lock: RecordLock::new(layout.graph_lock(), LockAccess::ReadWrite),
            holds: Arc::default(),
            layers: own_layers(&layout),
            images: records(
                layout.images(),
                "images",
                &[("images.json", Sync::Data)],
                LockAccess::ReadWrite,
            ),
            containers: records(
                layout.containers(),
                "containers",
                &[
                    ("containers.json", Sync::Data),
                    ("volatile-containers.json", Sync::None),
                ],
                LockAccess::ReadWrite,
            ),
            mounts: records(
                layout.run_layers(),
                "mountpoints",
                &[("mountpoints.json", Sync::None)],
                LockAccess::ReadWrite,
            ),
            foreign: foreign_roots
                .into_iter()
                .map(|root| ForeignStore::new(root, layout.driver))
                .collect(),
            container_staging: StagingArea::new(driver.staging_home(LayerUse::Container)),
            image_staging,
            reaper: Reaper::default(),
            partial_images: options.partial_images,
            file_staging: StagingArea::new(layout.layers().join("tmp")),
            driver,
            layout,
        };
        store.remove_leftovers()?;
        Ok(store)
    }

    /// The graph root.
    pub fn graph_root(&self) -> &Path {
        &self.layout.graph_root
    }

    /// The root below which images are: the graph root, or the image store.
    pub fn image_root(&self) -> &Path {
        self.layout.image_root()
    }

    /// The run root.
    pub fn run_root(&self) -> &Path {
        &self.layout.run_root
    }

    /// The name of the storage driver.
    pub fn driver_name(&self) -> &'static str {
        self.layout.driver
    }

    /// Whether of a layer that says where its files are only those should be fetched that no local layer has.
    pub fn partial_images(&self) -> bool {
        self.partial_images
    }

    /// Writes everything to the device that was written to the file systems of images and layers so far.
    ///
    /// Call it once per image, between staging the layers and committing them: what has a record then also has content
    /// after a power cut.
    pub fn sync(&self) -> Result<(), StagingError> {
        let homes = [self.layout.driver_home(), self.layout.image_driver_home()];
        let distinct = if homes[0] == homes[1] {
            &homes[..1]
        } else {
            &homes[..]
        };
        for home in distinct {
            let synced =
                std::fs::File::open(home).and_then(|directory| Ok(rustix::fs::syncfs(&directory)?));
            synced.map_err(|source| StagingError::Io {
                action: "sync the file system of",
                path: home.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// Locks a blob digest against other processes, for the time of a pull; held until dropped. No other lock of the
    /// store may be held meanwhile.
    pub fn digest_lock(&self, digest: &crioxide_names::Digest) -> RecordLock {
        RecordLock::new(
            self.layout.digest_locks().join(digest.as_str()),
            LockAccess::ReadWrite,
        )
    }

    pub(crate) fn staging(&self, layer_use: LayerUse) -> &StagingArea {
        match layer_use {
            LayerUse::Image => self
                .image_staging
                .as_ref()
                .unwrap_or(&self.container_staging),
            LayerUse::Container => &self.container_staging,
        }
    }

    fn remove_leftovers(&self) -> Result<(), OpenError> {
        self.container_staging.remove_leftovers()?;
        if let Some(staging) = &self.image_staging {
            staging.remove_leftovers()?;
        }
        self.file_staging.remove_leftovers()?;
        self.layers.remove_leftovers()?;
        self.images.remove_leftovers()?;
        self.containers.remove_leftovers()?;
        self.mounts.remove_leftovers()?;
        self.delete_incomplete_layers()?;
        Ok(())
    }
}

impl ForeignStore {
    fn new(root: PathBuf, driver: &'static str) -> Self {
        let layout = Layout {
            graph_root: root.clone(),
            run_root: root,
            image_store: None,
            driver,
        };
        let access = LockAccess::ReadOnly;
        Self {
            layers: records(
                layout.layers(),
                "layers",
                &[("layers.json", Sync::Data)],
                access,
            ),
            images: records(
                layout.images(),
                "images",
                &[("images.json", Sync::Data)],
                access,
            ),
            layout,
        }
    }
}

fn layout(options: &StoreOptions) -> Result<Layout, OpenError> {
    let driver = choice::choose(&options.driver, &options.graph_root)?;
    Ok(Layout {
        graph_root: options.graph_root.clone(),
        run_root: options.run_root.clone(),
        image_store: options
            .image_store
            .clone()
            .filter(|root| *root != options.graph_root),
        driver,
    })
}

/// The driver that the layout names. Roots of read-only stores among its options are added to `foreign_roots`.
fn driver(
    layout: &Layout,
    options: &[String],
    foreign_roots: &mut Vec<PathBuf>,
) -> Result<Box<dyn Driver>, OpenError> {
    let (home, image_home) = (layout.driver_home(), layout.image_driver_home());
    let homes = |roots: &[PathBuf]| roots.iter().map(|root| root.join(layout.driver)).collect();
    Ok(match layout.driver {
        "btrfs" => {
            let options = BtrfsOptions::parse(options)?;
            foreign_roots.extend(options.additional_image_stores.iter().cloned());
            Box::new(Btrfs::open(
                home,
                image_home,
                homes(foreign_roots),
                options,
            )?)
        }
        "aufs" => {
            require_one_store(layout, foreign_roots)?;
            let options = AufsOptions::parse(options)?;
            Box::new(Aufs::open(home, options)?)
        }
        "devicemapper" => {
            require_one_store(layout, foreign_roots)?;
            let options = DevicemapperOptions::parse(options)?;
            Box::new(Devicemapper::open(home, options)?)
        }
        "vfs" => {
            let options = VfsOptions::parse(options)?;
            foreign_roots.extend(options.additional_image_stores);
            Box::new(Vfs::open(home, image_home, homes(foreign_roots))?)
        }
        _ => {
            let options = OverlayOptions::parse(options)?;
            foreign_roots.extend(options.additional_image_stores.iter().cloned());
            Box::new(Overlay::open(
                home,
                image_home,
                homes(foreign_roots),
                options,
            )?)
        }
    })
}

/// Old drivers have all layers in one place.
fn require_one_store(layout: &Layout, foreign_roots: &[PathBuf]) -> Result<(), OpenError> {
    if layout.image_store.is_none() && foreign_roots.is_empty() {
        return Ok(());
    }
    Err(OpenError::UnsupportedDriver {
        driver: layout.driver.to_owned(),
        reason: "it has no image store and no additional stores",
    })
}

fn own_layers(layout: &Layout) -> Records<LayerRecord> {
    let directory = layout.layers();
    let mut locks = vec![directory.join("layers.lock")];
    let mut files = vec![
        RecordFile {
            path: directory.join("layers.json"),
            sync: Sync::Data,
        },
        RecordFile {
            path: directory.join("volatile-layers.json"),
            sync: Sync::None,
        },
    ];
    if let Some(directory) = layout.image_store_layers() {
        locks.push(directory.join("layers.lock"));
        files.push(RecordFile {
            path: directory.join("layers.json"),
            sync: Sync::Data,
        });
    }
    Records::new(locks, files, LockAccess::ReadWrite)
}

fn records<R: crate::record::Record>(
    directory: PathBuf,
    lock: &str,
    files: &[(&str, Sync)],
    access: LockAccess,
) -> Records<R> {
    let files = files
        .iter()
        .map(|&(name, sync)| RecordFile {
            path: directory.join(name),
            sync,
        })
        .collect();
    Records::new(vec![directory.join(format!("{lock}.lock"))], files, access)
}

fn make_dir_all(path: &Path) -> Result<(), OpenError> {
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(|source| OpenError::MakeDirectory {
        path: path.to_owned(),
        source,
    })
}
