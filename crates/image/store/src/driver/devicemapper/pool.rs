//! The thin pool that all layers are volumes of.

use crate::driver::DriverError;
use crate::store::options::DevicemapperOptions;
use crioxide_sys::block_device::{self, LoopDevice};
use crioxide_sys::device_mapper::{Ask, DeviceMapper, Removal};
use rustix::fs::{FileType, major, minor};
use rustix::io::Errno;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// The target of a pool.
const KIND: &str = "thin-pool";
/// Free blocks at which the kernel tells whoever listens.
const LOW_WATER: u64 = 32_768;
/// What LVM's set-up of containers/storage called its pool, and where it noted that.
const LVM_POOL: &str = "storage-thinpool";
const LVM_NOTE: &str = "setup-config.json";
/// How long a device that is busy for a moment is waited for, in steps.
const STEP: Duration = Duration::from_millis(20);
const STEPS: u32 = 500;

/// A pool that is there.
#[derive(Debug)]
pub(super) struct Pool {
    mapper: DeviceMapper,
    name: String,
    /// Whether it is the store's own, made of devices or files.
    own: bool,
    /// Whether it lies on files.
    on_files: bool,
    least_free: u64,
}

/// How a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) transaction: u64,
    metadata: Blocks,
    data: Blocks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Blocks {
    used: u64,
    total: u64,
}

impl Pool {
    /// Finds the pool, or makes it of what was there before, or anew.
    pub(super) fn open(
        home: &Path,
        prefix: &str,
        options: &DevicemapperOptions,
    ) -> Result<Self, DriverError> {
        let mapper = DeviceMapper::open().map_err(|error| {
            unusable(format!(
                "the kernel has no device mapper: /dev/mapper/control: {error}"
            ))
        })?;
        let foreign = match &options.direct_lvm {
            _ if options.pool.is_some() => options.pool.clone(),
            Some(device) if home.join(LVM_NOTE).exists() => {
                tracing::debug!(device, "the pool was made by LVM");
                Some(LVM_POOL.to_owned())
            }
            Some(device) => {
                return Err(unusable(format!(
                    "{device} is not set up here: make a thin pool of it with lvcreate and name that by dm.thinpooldev"
                )));
            }
            None => None,
        };
        let pool = Self {
            mapper,
            own: foreign.is_none(),
            on_files: foreign.is_none() && options.data_device.is_none(),
            name: foreign.unwrap_or_else(|| format!("{prefix}-pool")),
            least_free: options.least_free,
        };
        let there = pool.mapper.find(&pool.name);
        if there.map_err(|error| pool.fail("find", error))?.is_none() {
            if !pool.own {
                return Err(unusable(format!("there is no thin pool {}", pool.name)));
            }
            pool.make(home, options)?;
        }
        let target = pool.mapper.target(&pool.name, Ask::Status);
        let target = target.map_err(|error| pool.fail("ask", error))?;
        if target.kind != KIND {
            return Err(unusable(format!(
                "{} is a {} and no thin pool",
                pool.name, target.kind
            )));
        }
        Ok(pool)
    }

    fn make(&self, home: &Path, options: &DevicemapperOptions) -> Result<(), DriverError> {
        let files = home.join("devicemapper");
        let metadata = Below::open(
            options.metadata_device.as_deref(),
            &files.join("metadata"),
            options.metadata_file_size,
        )?;
        let data = Below::open(
            options.data_device.as_deref(),
            &files.join("data"),
            options.data_file_size,
        )?;
        let table = format!(
            "{} {} {} {LOW_WATER} 1 skip_block_zeroing",
            metadata.number, data.number, options.block_sectors
        );
        match self.mapper.create(&self.name, data.sectors, KIND, &table) {
            // Another process was first.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => Ok(()),
            other => other.map_err(|error| self.fail("make the thin pool", error)),
        }
    }

    pub(super) fn mapper(&self) -> &DeviceMapper {
        &self.mapper
    }

    /// Whether blocks of deleted layers are given back to what is below, if nobody says.
    pub(super) fn on_files(&self) -> bool {
        self.on_files
    }

    pub(super) fn is_own(&self) -> bool {
        self.own
    }

    /// # Errors
    /// When the pool does not work any more.
    pub(super) fn status(&self) -> Result<Status, DriverError> {
        let target = self.mapper.target(&self.name, Ask::Status);
        let text = target.map_err(|error| self.fail("ask", error))?.text;
        Status::parse(&text).ok_or_else(|| {
            unusable(format!(
                "the thin pool {} cannot be used, and may have to be repaired by thin_repair: its status is `{text}`",
                self.name
            ))
        })
    }

    /// # Errors
    /// When less than the configured share of the pool is free.
    pub(super) fn require_room(&self) -> Result<(), DriverError> {
        let Status { metadata, data, .. } = self.status()?;
        for (kind, blocks) in [("data", data), ("metadata", metadata)] {
            let free = blocks.total.saturating_sub(blocks.used);
            if free < (blocks.total * self.least_free / 100).max(u64::from(self.least_free > 0)) {
                return Err(unusable(format!(
                    "{free} of {} {kind} blocks of the thin pool {} are free, less than dm.min_free_space={}%",
                    blocks.total, self.name, self.least_free
                )));
            }
        }
        Ok(())
    }

    /// Makes the volume `number`, empty or as a copy of `origin`. `false` if there is one of that number.
    pub(super) fn make_volume(
        &self,
        number: u32,
        origin: Option<u32>,
    ) -> Result<bool, DriverError> {
        let message = match origin {
            None => format!("create_thin {number}"),
            Some(origin) => format!("create_snap {number} {origin}"),
        };
        match self.mapper.message(&self.name, &message) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => Ok(false),
            other => other
                .map(|()| true)
                .map_err(|error| self.fail("make a volume of", error)),
        }
    }

    /// Deletes the volume `number`. `false` while it is in use; one that is not there is no error.
    pub(super) fn delete_volume(&self, number: u32) -> Result<bool, DriverError> {
        match self.mapper.message(&self.name, &format!("delete {number}")) {
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::BUSY) => Ok(false),
                Some(Errno::NODATA | Errno::NOENT) => Ok(true),
                _ => Err(self.fail("delete a volume of", error)),
            },
            Ok(()) => Ok(true),
        }
    }

    /// Raises the number of the last transaction, by which everything before is on the device.
    pub(super) fn finish(&self, before: u64, now: u64) -> Result<(), DriverError> {
        let message = format!("set_transaction_id {before} {now}");
        let told = self.mapper.message(&self.name, &message);
        told.map_err(|error| self.fail("finish a transaction of", error))
    }

    /// Makes the volume `number` a device, unless it is one.
    pub(super) fn activate(
        &self,
        name: &str,
        number: u32,
        size: u64,
    ) -> Result<PathBuf, DriverError> {
        let fail = |error| DriverError::io("activate", node(name), error);
        for _ in 0..STEPS {
            if let Some(device) = self.mapper.find(name).map_err(fail)? {
                return Ok(device.node());
            }
            let pool = self.mapper.find(&self.name).map_err(fail)?;
            let pool =
                pool.ok_or_else(|| unusable(format!("the thin pool {} is gone", self.name)))?;
            let table = format!("{}:{} {number}", pool.major, pool.minor);
            match self.mapper.create(name, size / 512, "thin", &table) {
                // Somebody else did it, and may take it away again.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => sleep(STEP),
                other => other.map_err(fail)?,
            }
        }
        Err(fail(io::ErrorKind::ResourceBusy.into()))
    }

    /// Lets the device go when it is closed. What is stored stays.
    pub(super) fn release(&self, name: &str) -> Result<(), DriverError> {
        let released = self.mapper.remove(name, Removal::OnceClosed);
        released.map_err(|error| DriverError::io("release", node(name), error))
    }

    /// Takes the device away. `false` if it stays in use.
    pub(super) fn deactivate(&self, name: &str) -> Result<bool, DriverError> {
        self.wait(|| match self.mapper.remove(name, Removal::Now) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => Ok(false),
            other => other
                .map(|()| true)
                .map_err(|error| DriverError::io("deactivate", node(name), error)),
        })
    }

    /// Does what udev, or a mount that just ended, may hold up for a moment. `false` if it never could be done.
    pub(super) fn wait(
        &self,
        mut act: impl FnMut() -> Result<bool, DriverError>,
    ) -> Result<bool, DriverError> {
        for _ in 0..STEPS {
            if act()? {
                return Ok(true);
            }
            sleep(STEP);
        }
        Ok(false)
    }

    /// Takes a pool of the store's own away; it stays if layers of it are in use.
    pub(super) fn close(&self) -> Result<(), DriverError> {
        if self.own && !self.deactivate(&self.name)? {
            tracing::info!(pool = self.name, "the thin pool is in use and stays");
        }
        Ok(())
    }

    fn fail(&self, action: &'static str, error: io::Error) -> DriverError {
        DriverError::io(action, node(&self.name), error)
    }
}

impl Status {
    /// `<transaction> <used>/<total metadata> <used>/<total data> <root> <mode> …`; `None` of a pool that failed or that
    /// nothing can be written to.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let mut next = || words.next();
        let blocks = |text: &str| {
            let (used, total) = text.split_once('/')?;
            Some(Blocks {
                used: used.parse().ok()?,
                total: total.parse().ok()?,
            })
        };
        let status = Self {
            transaction: next()?.parse().ok()?,
            metadata: blocks(next()?)?,
            data: blocks(next()?)?,
        };
        let _root = next();
        // A pool without room for data can still be made room in.
        (next() != Some("ro")).then_some(status)
    }
}

/// A block device that a pool is made of.
struct Below {
    /// `major:minor`.
    number: String,
    sectors: u64,
    /// Kept until the pool has it.
    _file: Option<LoopDevice>,
}

impl Below {
    /// The configured device, or else one made of the file, which is made if it is not there.
    fn open(device: Option<&Path>, file: &Path, size: u64) -> Result<Self, DriverError> {
        match device {
            Some(device) => Self::of_device(device),
            None => Self::of_file(file, size),
        }
    }

    fn of_device(path: &Path) -> Result<Self, DriverError> {
        let fail = |error| DriverError::io("open the device", path, error);
        let mut opened = File::open(path).map_err(fail)?;
        let status = opened.metadata().map_err(fail)?;
        if FileType::from_raw_mode(status.mode()) != FileType::BlockDevice {
            return Err(fail(Errno::NOTBLK.into()));
        }
        let bytes = opened.seek(SeekFrom::End(0)).map_err(fail)?;
        Ok(Self {
            number: format!("{}:{}", major(status.rdev()), minor(status.rdev())),
            sectors: bytes / 512,
            _file: None,
        })
    }

    fn of_file(path: &Path, size: u64) -> Result<Self, DriverError> {
        let fail = |error| DriverError::io("make a device of", path, error);
        if let Some(directory) = path.parent() {
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory);
            made.map_err(fail)?;
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).mode(0o600);
        let file = options.open(path).map_err(fail)?;
        let there = file.metadata().map_err(fail)?.len();
        if there < size {
            file.set_len(size).map_err(fail)?;
        }
        let device = block_device::attach(&file).map_err(fail)?;
        let number = device.file.metadata().map_err(fail)?.rdev();
        Ok(Self {
            number: format!("{}:{}", major(number), minor(number)),
            sectors: there.max(size) / 512,
            _file: Some(device),
        })
    }
}

/// The start of the names of all devices of the store at `home`, as containers/storage makes it.
pub(super) fn prefix(home: &Path) -> Result<String, DriverError> {
    let status = fs::metadata(home).map_err(|error| DriverError::io("look at", home, error))?;
    let (device, inode) = (status.dev(), status.ino());
    Ok(format!(
        "container-{}:{}-{inode}",
        major(device),
        minor(device)
    ))
}

pub(super) fn unusable(problem: String) -> DriverError {
    DriverError::Unusable {
        driver: "devicemapper",
        problem,
    }
}

fn node(name: &str) -> PathBuf {
    Path::new("/dev/mapper").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_cannot_be_written_to_is_told_from_one_that_can() {
        let fine = "17 90/4161600 300/1638400 - rw discard_passdown queue_if_no_space - 1024";
        let status = Status::parse(fine).unwrap();
        assert_eq!(status.transaction, 17);
        assert_eq!((status.metadata.used, status.data.total), (90, 1_638_400));
        for bad in [
            "Fail",
            "Error",
            "",
            "1 2/3 4",
            "17 90/4161600 300/1638400 - ro discard_passdown queue_if_no_space - 1024",
        ] {
            assert_eq!(Status::parse(bad), None, "{bad}");
        }
    }
}
