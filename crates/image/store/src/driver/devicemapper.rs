//! The devicemapper driver: each layer is a volume of a thin pool with a file system of its own, that starts as a snapshot of
//! the one below, in the layout that containers/storage had until 1.53.
//!
//! `metadata` says which volume is which layer, `devicemapper` has the files that a pool is made of where no devices are
//! given, and in `mnt` volumes are mounted, whose directory `rootfs` is the layer. A volume is a device only while it is
//! mounted: as soon as it is, the kernel is told to take the device away when it is closed.
//!
//! Volumes are made and deleted by whoever holds the lock on layer records, so there is one transaction at a time.

mod file_system;
mod metadata;
mod pool;
mod volumes;

use self::file_system::FileSystem;
use self::metadata::{BASE, Device, Metadata, Transaction};
use self::pool::{Pool, prefix, unusable};
use super::home::{PrivateHome, is_mount_point};
use super::tree::{ADDED, attach, attributes, make_dir, merge, open_directory};
use super::{Driver, DriverError, LayerContent, LayerUse, RootMode, accept_missing};
use crate::store::options::DevicemapperOptions;
use crate::{LayerId, MountIds, MountOptions};
use crioxide_files::{
    LockAccess, ReadGuard, RecordLock, RecordLockError, WriteGuard, random_suffix,
};
use crioxide_sys::mount_attributes::{MountChange, Reach};
use rustix::fs::{CWD, Mode, fchmod, mkdirat};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount,
};
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Below the home: where volumes are mounted.
const MOUNTS: &str = "mnt";
/// Of a volume: the layer.
const ROOT: &str = "rootfs";
/// In a stacked layer: the volume that it will be.
const VOLUME: &str = "device";
/// What a volume is called in a transaction until it is a layer.
const STAGED: &str = "staged";
/// Bytes of a layer's file system where nobody says.
const SIZE: u64 = 10 << 30;
/// How often a device that was about to go is looked for again.
const ATTEMPTS: usize = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Volumes of one pool.
#[derive(Debug)]
pub(crate) struct Devicemapper {
    home: PathBuf,
    prefix: String,
    options: DevicemapperOptions,
    pool: Pool,
    metadata: Metadata,
    /// Held to make and delete volumes, and shared to make devices of them.
    changing: RecordLock,
    private_home: PrivateHome,
    /// The number given out last.
    last: Mutex<u32>,
}

/// A mounted volume.
struct Mounted {
    /// In no directory.
    mount: OwnedFd,
    root: OwnedFd,
}

impl Devicemapper {
    /// Finds or makes pool and base volume.
    pub(crate) fn open(home: PathBuf, options: DevicemapperOptions) -> Result<Self, DriverError> {
        let metadata = Metadata::new(&home);
        for directory in [&home.join(MOUNTS), metadata.directory()] {
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory);
            made.map_err(|error| DriverError::io("make directory", directory, error))?;
        }
        let prefix = prefix(&home)?;
        let changing = RecordLock::new(metadata.directory().join(".lock"), LockAccess::ReadWrite);
        let locked = changing.write().map_err(lock_error)?;
        let pool = Pool::open(&home, &prefix, &options)?;
        drop(locked);
        let driver = Self {
            private_home: PrivateHome::new(home.clone()),
            last: Mutex::new(metadata.set()?.next_device_id),
            home,
            prefix,
            options,
            pool,
            metadata,
            changing,
        };
        driver.prepare_base()?;
        Ok(driver)
    }

    fn lock(&self) -> Result<WriteGuard<'_>, DriverError> {
        self.changing.write().map_err(lock_error)
    }

    fn share(&self) -> Result<ReadGuard<'_>, DriverError> {
        self.changing.read().map_err(lock_error)
    }

    fn device_name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn mount_directory(&self, id: &LayerId) -> PathBuf {
        self.home.join(MOUNTS).join(id)
    }

    fn require(&self, id: &LayerId) -> Result<Device, DriverError> {
        let device = self.metadata.device(id.as_str())?;
        device
            .filter(|device| !device.deleted)
            .ok_or_else(|| DriverError::Damaged {
                id: id.to_string(),
                problem: format!(
                    "{} has no volume of it",
                    self.metadata.directory().display()
                ),
            })
    }

    /// Mounts a volume nowhere. It has a device for as long as it is mounted.
    fn mount_volume(
        &self,
        name: &str,
        device: &Device,
        label: &str,
        access: MountAttrFlags,
    ) -> Result<Mounted, DriverError> {
        let mut gone = Errno::NXIO;
        for _ in 0..ATTEMPTS {
            let node = self.pool.activate(name, device.device_id, device.size)?;
            let mounted = FileSystem::of(&node).and_then(|found| {
                let options = &self.options.mount_options;
                let mounted = found.mount(&node, options, label);
                let mounted = mounted.map_err(|error| DriverError::io("mount", &node, error))?;
                if let Some(retries) = self.options.xfs_retries.filter(|_| found.kind == "xfs") {
                    set_retries(&node, retries)?;
                }
                Ok(mounted)
            });
            // It may have been about to go, as one that just was unmounted is.
            if let Err(DriverError::Io { source, .. }) = &mounted
                && let Some(error @ (Errno::NXIO | Errno::NOENT | Errno::NODEV)) =
                    Errno::from_io_error(source)
            {
                gone = error;
                std::thread::sleep(PAUSE);
                continue;
            }
            self.pool.release(name)?;
            let mount = mounted?;
            let root = open_root(&mount).and_then(|root| {
                if !access.is_empty() {
                    let change = MountChange::new();
                    let change = change.attributes(access, MountAttrFlags::empty());
                    change.apply(&mount, Reach::Single)?;
                }
                Ok(root)
            });
            let root = root.map_err(|error| DriverError::io("open the root of", node, error))?;
            return Ok(Mounted { mount, root });
        }
        Err(DriverError::io("mount", name, gone))
    }

    /// Fills the new volume with what the layer adds.
    fn fill(&self, staged: &Path, device: &Device, take_root: bool) -> Result<(), DriverError> {
        let added = staged.join(ADDED);
        let name = self.device_name(&format!("{STAGED}-{}", device.device_id));
        if added.is_dir() {
            let mounted = self.mount_volume(&name, device, "", MountAttrFlags::empty())?;
            let whole = LayerContent::of(mounted.root);
            merge(&added, &whole, take_root)
                .map_err(|error| DriverError::io("apply the layer's changes of", &added, error))?;
            fs::remove_dir_all(&added).map_err(|error| DriverError::io("remove", &added, error))?;
            drop((whole, mounted.mount));
            // On the device when it is not mounted any more: the name is another with the next mount.
            if !self.pool.deactivate(&name)? {
                return Err(unusable(format!("the new volume {name} stays in use")));
            }
        }
        Ok(())
    }
}

impl Driver for Devicemapper {
    fn prepare(&self, staged: &Path, layer_use: LayerUse) -> Result<(), DriverError> {
        make_dir(staged, 0o700)?;
        match layer_use {
            LayerUse::Image => make_dir(&staged.join(ADDED), 0o555),
            // A snapshot and nothing else.
            LayerUse::Container => Ok(()),
        }
    }

    fn stack(
        &self,
        staged: &Path,
        parent: Option<&LayerId>,
        root: RootMode,
    ) -> Result<(), DriverError> {
        let name = parent.map_or(BASE, LayerId::as_str);
        let below = match parent {
            Some(parent) => self.require(parent)?,
            None => self
                .metadata
                .device(BASE)?
                .ok_or_else(|| unusable("the base volume is gone".into()))?,
        };
        let locked = self.lock()?;
        self.pool.require_room()?;
        let below_name = self.device_name(name);
        let mapper = self.pool.mapper();
        let fail = |error| DriverError::io("hold up the layer below,", &below_name, error);
        let active = mapper.find(&below_name).map_err(fail)?.is_some();
        if active {
            mapper.suspend(&below_name).map_err(fail)?;
        }
        let made = self.new_volume(STAGED, Some(below.device_id));
        if active {
            mapper.resume(&below_name).map_err(fail)?;
        }
        let device = Device::new(&made?, below.size);
        drop(locked);
        self.fill(staged, &device, root == RootMode::Own || parent.is_none())?;
        let path = staged.join(VOLUME);
        let written = serde_json::to_vec(&device)
            .map_err(io::Error::from)
            .and_then(|text| fs::write(&path, text));
        written.map_err(|error| DriverError::io("write", path, error))
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
        let path = staged.join(VOLUME);
        let fail = |error| DriverError::io("read", &path, error);
        let text = fs::read(&path).map_err(fail)?;
        let device: Device = serde_json::from_slice(&text).map_err(|error| fail(error.into()))?;
        let _locked = self.lock()?;
        if let Some(leftover) = self.metadata.device(id.as_str())? {
            // Without a record: nobody can be using it.
            let name = self.device_name(id.as_str());
            if !self.pool.deactivate(&name)? || !self.delete_volume(leftover.device_id)? {
                return Err(unusable(format!("the leftover of layer {id} is in use")));
            }
        }
        let transaction = Transaction {
            open_transaction_id: device.transaction_id,
            device_hash: id.to_string(),
            device_id: device.device_id,
        };
        self.metadata.write_transaction(&transaction)?;
        self.metadata.write_device(id.as_str(), &device)?;
        self.finish(&transaction)?;
        fs::remove_dir_all(staged).map_err(|error| DriverError::io("remove", staged, error))
    }

    fn flush(&self, _installed: &[LayerId]) -> Result<(), DriverError> {
        super::sync_directory(self.metadata.directory())
    }

    fn discard(&self, id: &LayerId, _trash: &Path) -> Result<(), DriverError> {
        let locked = self.lock()?;
        match self.metadata.device(id.as_str())? {
            Some(device) => self.delete(id.as_str(), &device, &locked),
            None => Ok(()),
        }
    }

    fn content(&self, id: &LayerId) -> Result<LayerContent, DriverError> {
        let _shared = self.share()?;
        let path = self.mount_path(id);
        if is_mount_point(&path)? {
            let root = open_directory(CWD, &path);
            let root = root.map_err(|error| DriverError::io("open", path, error))?;
            return Ok(LayerContent::of(root));
        }
        let (name, device) = (self.device_name(id.as_str()), self.require(id)?);
        let mounted = self.mount_volume(&name, &device, "", MountAttrFlags::MOUNT_ATTR_RDONLY)?;
        Ok(LayerContent::of(mounted.root).keeping(mounted.mount))
    }

    fn mount_path(&self, id: &LayerId) -> PathBuf {
        self.mount_directory(id).join(ROOT)
    }

    fn mount_at(
        &self,
        id: &LayerId,
        target: &Path,
        options: &MountOptions,
    ) -> Result<(), DriverError> {
        let change = attributes(id, options)?;
        self.private_home.ensure()?;
        let _shared = self.share()?;
        let device = self.require(id)?;
        let name = self.device_name(id.as_str());
        let mounted = self.mount_volume(
            &name,
            &device,
            &options.mount_label,
            MountAttrFlags::empty(),
        )?;
        // Only what is in a directory can be mounted in parts.
        let own = self.mount_directory(id);
        let passing = self
            .home
            .join(MOUNTS)
            .join(format!("passing-{}", random_suffix()));
        let directory = if target == own.join(ROOT) {
            &own
        } else {
            &passing
        };
        let fail = |error: io::Error| DriverError::io("mount the layer at", target, error);
        match make_dir(directory, 0o700) {
            Err(DriverError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {}
            other => other?,
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mounted.mount, "", CWD, directory, flags)
            .map_err(|error| fail(error.into()))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, directory.join(ROOT), flags).map_err(io::Error::from);
        if directory == &passing {
            self.unmount_directory(&passing)?;
        }
        let attached = tree.and_then(|tree| attach(&tree, target, change, options.ids.as_ref()));
        if attached.is_err() && directory == &own {
            self.unmount_directory(&own)?;
        }
        attached.map_err(fail)
    }

    fn unmount(&self, id: &LayerId) -> Result<(), DriverError> {
        self.unmount_directory(&self.mount_directory(id))
    }

    fn list(&self) -> Result<Vec<LayerId>, DriverError> {
        let devices = self.metadata.devices()?.into_iter();
        let layers = devices.filter(|(_, device)| !device.deleted);
        Ok(layers
            .filter_map(|(name, _)| LayerId::parse(&name).ok())
            .collect())
    }

    fn remove_strays(&self) -> Result<(), DriverError> {
        let locked = self.lock()?;
        self.settle()?;
        for (name, device) in self.metadata.devices()? {
            if device.deleted {
                self.delete(&name, &device, &locked)?;
            }
        }
        drop(locked);
        let mounts = self.home.join(MOUNTS);
        let entries = fs::read_dir(&mounts)
            .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
            .map_err(|error| DriverError::io("list", mounts, error))?;
        for entry in entries {
            if LayerId::parse(&entry.file_name().to_string_lossy()).is_err() {
                self.unmount_directory(&entry.path())?;
            }
        }
        Ok(())
    }

    fn examine(&self, id: &LayerId) -> Vec<String> {
        match self.content(id) {
            Ok(_) => Vec::new(),
            Err(error) => {
                let source = std::error::Error::source(&error);
                let cause = source
                    .map(|source| format!(": {source}"))
                    .unwrap_or_default();
                vec![format!("{error}{cause}")]
            }
        }
    }

    fn shut_down(&self) -> Result<(), DriverError> {
        let _locked = self.lock()?;
        let mut set = self.metadata.set()?;
        set.next_device_id = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        self.metadata.write_set(&set)?;
        self.private_home.release()?;
        self.pool.close()
    }
}

impl Devicemapper {
    fn unmount_directory(&self, directory: &Path) -> Result<(), DriverError> {
        match unmount(directory, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(error) => return Err(DriverError::io("unmount", directory, error)),
        }
        // A name that is gone takes the mounts that other namespaces have at it along.
        match accept_missing(fs::remove_dir(directory)) {
            Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => {
                Err(DriverError::io("remove", directory, error))
            }
            _ => Ok(()),
        }
    }
}

/// The layer on a mounted volume, whose directory is made when the volume is first mounted.
fn open_root(mount: &OwnedFd) -> io::Result<OwnedFd> {
    match open_directory(mount, ROOT) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            mkdirat(mount, ROOT, Mode::RWXU)?;
            let root = open_directory(mount, ROOT)?;
            fchmod(&root, Mode::from_raw_mode(0o555))?;
            Ok(root)
        }
        other => other,
    }
}

/// Lets xfs give up what a full pool does not take after so many attempts.
fn set_retries(node: &Path, retries: u64) -> Result<(), DriverError> {
    let name = node.file_name().unwrap_or_default();
    let path = Path::new("/sys/fs/xfs")
        .join(name)
        .join("error/metadata/ENOSPC/max_retries");
    fs::write(&path, retries.to_string()).map_err(|error| DriverError::io("write", path, error))
}

fn lock_error(error: RecordLockError) -> DriverError {
    DriverError::io("lock", error.path, error.source)
}
