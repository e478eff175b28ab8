//! The options of the devicemapper driver.

use super::DriverOptionError;
use super::entries::{self, Problem, boolean, bytes, items};
use std::path::PathBuf;

/// What `dm.*` says, with the defaults that containers/storage had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DevicemapperOptions {
    /// The name of a thin pool that somebody else looks after.
    pub(crate) pool: Option<String>,
    /// Whether that pool was made of a device by LVM, which is remembered in the store.
    pub(crate) direct_lvm: Option<String>,
    /// Block devices for a pool of the store's own; files if they are not there.
    pub(crate) data_device: Option<PathBuf>,
    pub(crate) metadata_device: Option<PathBuf>,
    /// Bytes of those files.
    pub(crate) data_file_size: u64,
    pub(crate) metadata_file_size: u64,
    /// Bytes of each layer's file system.
    pub(crate) base_size: Option<u64>,
    /// `ext4` or `xfs`; `None` takes xfs where it can be had.
    pub(crate) file_system: Option<String>,
    pub(crate) mkfs_arguments: Vec<String>,
    pub(crate) mount_options: Vec<String>,
    /// 512-byte sectors that the pool gives out at once.
    pub(crate) block_sectors: u64,
    /// Percent of the pool that must be free for a new layer.
    pub(crate) least_free: u64,
    /// Whether deleted layers give their blocks back to what is below the pool; `None` does so for files.
    pub(crate) discard: Option<bool>,
    /// How often xfs tries again when the pool is full, for each mount.
    pub(crate) xfs_retries: Option<u64>,
}

/// The file systems there can be.
pub(crate) const FILE_SYSTEMS: [&str; 2] = ["xfs", "ext4"];

impl Default for DevicemapperOptions {
    fn default() -> Self {
        Self {
            pool: None,
            direct_lvm: None,
            data_device: None,
            metadata_device: None,
            data_file_size: 100 << 30,
            metadata_file_size: 2 << 30,
            base_size: None,
            file_system: None,
            mkfs_arguments: Vec::new(),
            mount_options: Vec::new(),
            block_sectors: 128,
            least_free: 10,
            discard: None,
            xfs_retries: None,
        }
    }
}

impl DevicemapperOptions {
    pub(crate) fn parse(options: &[String]) -> Result<Self, DriverOptionError> {
        let mut parsed = Self::default();
        entries::read(options, &["dm", "devicemapper"], |key, value| {
            parsed.take(key, value)
        })?;
        Ok(parsed)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<bool, Problem> {
        match key {
            "thinpooldev" => {
                let name = value.strip_prefix("/dev/mapper/").unwrap_or(value);
                self.pool = Some(name.to_owned()).filter(|name| !name.is_empty());
            }
            "directlvm_device" => self.direct_lvm = Some(value.to_owned()),
            "datadev" => self.data_device = Some(value.into()),
            "metadatadev" => self.metadata_device = Some(value.into()),
            "loopdatasize" => self.data_file_size = bytes(value)?,
            "loopmetadatasize" => self.metadata_file_size = bytes(value)?,
            "basesize" => self.base_size = Some(bytes(value)?),
            "fs" if FILE_SYSTEMS.contains(&value) => self.file_system = Some(value.to_owned()),
            "fs" => return Err("expected xfs or ext4".into()),
            "mkfsarg" => self.mkfs_arguments.push(value.to_owned()),
            "mountopt" => self.mount_options.extend(items(value)),
            "blocksize" => {
                let size = bytes(value)?;
                // What the kernel takes.
                if !(64 << 10..=1 << 30).contains(&size) || size % (64 << 10) != 0 {
                    return Err("not a multiple of 64K up to 1G".into());
                }
                self.block_sectors = size / 512;
            }
            "min_free_space" => {
                let percent = value.strip_suffix('%').and_then(|text| text.parse().ok());
                self.least_free = percent
                    .filter(|percent| *percent < 100)
                    .ok_or("not a percentage below 100%")?;
            }
            "blkdiscard" => self.discard = Some(boolean(value)?),
            "xfs_nospace_max_retries" => {
                self.xfs_retries = Some(value.parse().map_err(|_| "not a number")?);
            }
            // Devices always go when they are closed, and what is in use is always deleted later.
            "use_deferred_removal" | "use_deferred_deletion" => {
                if !boolean(value)? {
                    tracing::warn!(
                        key,
                        "removal and deletion of busy devices are always deferred"
                    );
                }
            }
            // Of libdevmapper and udev, which are not used, and of LVM's set-up, which is not done.
            "override_udev_sync_check"
            | "libdm_log_level"
            | "directlvm_device_force"
            | "metadata_size"
            | "metadatasize"
            | "thinp_percent"
            | "thinp_metapercent"
            | "thinp_autoextend_percent"
            | "thinp_autoextend_threshold" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<DevicemapperOptions, DriverOptionError> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        DevicemapperOptions::parse(&options)
    }

    #[test]
    fn options_are_those_of_containers_storage() {
        let options = parse(&[
            "dm.thinpooldev=/dev/mapper/vg-pool",
            "dm.basesize=20G",
            "dm.fs=ext4",
            "dm.mkfsarg=-N 1000",
            "dm.mkfsarg=-q",
            "dm.mountopt=noatime,nodev",
            "devicemapper.mountopt=discard",
            "dm.blocksize=512K",
            "dm.min_free_space=5%",
            "dm.use_deferred_removal=true",
            "dm.xfs_nospace_max_retries=0",
            "overlay.mountopt=nodev",
        ]);
        let options = options.unwrap();
        assert_eq!(options.pool.as_deref(), Some("vg-pool"));
        assert_eq!(options.base_size, Some(20 << 30));
        assert_eq!(options.mkfs_arguments, ["-N 1000", "-q"]);
        assert_eq!(options.mount_options, ["noatime", "nodev", "discard"]);
        assert_eq!((options.block_sectors, options.least_free), (1024, 5));
        assert_eq!(parse(&[]).unwrap(), DevicemapperOptions::default());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for option in [
            "dm.fs=btrfs",
            "dm.blocksize=1000",
            "dm.min_free_space=10",
            "dm.min_free_space=100%",
            "dm.basesize=big",
            "dm.x=1",
        ] {
            let error = parse(&[option]).unwrap_err().to_string();
            assert!(error.contains(option), "{error}");
        }
    }
}
