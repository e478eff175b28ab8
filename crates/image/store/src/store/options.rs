//! What a store is opened with.

mod size;

use std::path::PathBuf;

/// Where a store is and how it behaves.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Persistent data, usually `/var/lib/containers/storage`.
    pub graph_root: PathBuf,
    /// Data that ends with a reboot, usually `/run/containers/storage`.
    pub run_root: PathBuf,
    /// A second root for images and their layers; `None` keeps them below `graph_root`.
    pub image_store: Option<PathBuf>,
    /// Name of the storage driver: `overlay` (also `overlay2`), `btrfs` or `vfs`; empty takes the one
    /// that the store was made with, or overlay.
    pub driver: String,
    /// `<driver>.<key>=<value>` entries in the order of precedence: a later one wins.
    pub driver_options: Vec<String>,
    /// Roots of read-only stores that are searched after the own one.
    pub additional_image_stores: Vec<PathBuf>,
    /// Whether of a layer that says where its files are only those are fetched that no local layer has.
    pub partial_images: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            graph_root: "/var/lib/containers/storage".into(),
            run_root: "/run/containers/storage".into(),
            image_store: None,
            driver: String::new(),
            driver_options: Vec::new(),
            additional_image_stores: Vec::new(),
            partial_images: true,
        }
    }
}

/// An entry of `storage_option` that cannot be used.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("storage option `{option}`: {problem}")]
pub struct DriverOptionError {
    /// The entry as written.
    pub option: String,
    problem: &'static str,
}

/// The options of the overlay driver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OverlayOptions {
    /// Mount options for every overlay mount, such as `nodev` and `metacopy=on`.
    pub(crate) mount_options: Vec<String>,
    pub(crate) skip_mount_home: bool,
    pub(crate) ignore_chown_errors: bool,
    pub(crate) additional_image_stores: Vec<PathBuf>,
}

impl OverlayOptions {
    pub(crate) fn parse(options: &[String]) -> Result<Self, DriverOptionError> {
        let mut parsed = Self::default();
        for option in options {
            let fail = |problem| DriverOptionError {
                option: option.clone(),
                problem,
            };
            let (key, value) = option
                .split_once('=')
                .ok_or_else(|| fail("expected key=value"))?;
            let key = key.trim().to_ascii_lowercase();
            let key = key
                .strip_prefix("overlay2.")
                .or_else(|| key.strip_prefix("overlay."))
                .unwrap_or(&key);
            let value = value.trim();
            match key {
                "mountopt" => {
                    let items = value
                        .split(',')
                        .map(str::trim)
                        .filter(|item| !item.is_empty());
                    parsed.mount_options = items.map(str::to_owned).collect();
                }
                "skip_mount_home" => {
                    parsed.skip_mount_home = boolean(value).ok_or_else(|| fail("not a boolean"))?
                }
                "ignore_chown_errors" => {
                    parsed.ignore_chown_errors =
                        boolean(value).ok_or_else(|| fail("not a boolean"))?;
                }
                "imagestore" | "additionalimagestore" => {
                    parsed.additional_image_stores.extend(
                        value
                            .split(',')
                            .filter(|path| !path.is_empty())
                            .map(PathBuf::from),
                    );
                }
                // What a helper would have there is pulled instead.
                "additionallayerstore" => {
                    tracing::warn!(
                        option,
                        "additional layer stores are not used: layers are pulled"
                    );
                }
                "use_composefs" if boolean(value) == Some(false) => {}
                "mount_program" if value.is_empty() => {}
                "mount_program" | "use_composefs" | "size" | "inodes" | "force_mask" => {
                    return Err(fail("not built yet"));
                }
                key if key.contains('.') && !key.starts_with("overlay") => {
                    tracing::debug!(option, "ignoring an option of another storage driver");
                }
                _ => return Err(fail("unknown option of the overlay driver")),
            }
        }
        Ok(parsed)
    }
}

/// The options of the vfs driver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct VfsOptions {
    pub(crate) additional_image_stores: Vec<PathBuf>,
}

impl VfsOptions {
    pub(crate) fn parse(options: &[String]) -> Result<Self, DriverOptionError> {
        let mut parsed = Self::default();
        for option in options {
            let fail = |problem| DriverOptionError {
                option: option.clone(),
                problem,
            };
            let (key, value) = option
                .split_once('=')
                .ok_or_else(|| fail("expected key=value"))?;
            let key = key.trim().to_ascii_lowercase();
            match key.strip_prefix("vfs.").unwrap_or(&key) {
                "imagestore" | "additionalimagestore" => {
                    let paths = value.trim().split(',').filter(|path| !path.is_empty());
                    parsed
                        .additional_image_stores
                        .extend(paths.map(PathBuf::from));
                }
                "ignore_chown_errors" if boolean(value.trim()) == Some(false) => {}
                "mountopt" if value.trim().is_empty() => {}
                key if key.contains('.') => {
                    tracing::debug!(option, "ignoring an option of another storage driver");
                }
                _ => return Err(fail("not an option of the vfs driver")),
            }
        }
        Ok(parsed)
    }
}

/// The options of the btrfs driver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BtrfsOptions {
    /// Bytes that a container's layer may refer to, those of its image included.
    pub(crate) size: Option<u64>,
    /// Whether space is accounted by subvolume.
    pub(crate) quotas: bool,
    pub(crate) additional_image_stores: Vec<PathBuf>,
}

impl BtrfsOptions {
    pub(crate) fn parse(options: &[String]) -> Result<Self, DriverOptionError> {
        let mut parsed = Self::default();
        let mut least = 0;
        for option in options {
            let fail = |problem| DriverOptionError {
                option: option.clone(),
                problem,
            };
            let (key, value) = option
                .split_once('=')
                .ok_or_else(|| fail("expected key=value"))?;
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            let bytes = || size::parse(value).ok_or_else(|| fail("not a size, such as 10G"));
            match key.strip_prefix("btrfs.").unwrap_or(&key) {
                "size" => parsed.size = Some(bytes()?),
                "min_space" => least = bytes()?,
                "imagestore" | "additionalimagestore" => {
                    let paths = value.split(',').filter(|path| !path.is_empty());
                    parsed
                        .additional_image_stores
                        .extend(paths.map(PathBuf::from));
                }
                "mountopt" if value.is_empty() => {}
                key if key.contains('.') => {
                    tracing::debug!(option, "ignoring an option of another storage driver");
                }
                _ => return Err(fail("not an option of the btrfs driver")),
            }
            if parsed.size.is_some_and(|size| size < least) {
                return Err(fail("size is less than min_space"));
            }
        }
        parsed.quotas = parsed.size.is_some() || least > 0;
        Ok(parsed)
    }
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<OverlayOptions, DriverOptionError> {
        OverlayOptions::parse(
            &options
                .iter()
                .map(|&option| option.to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn all_prefixes_are_one_and_the_last_entry_wins() {
        let options = parse(&[
            "overlay2.mountopt=nodev",
            "mountopt=nodev,metacopy=on",
            "overlay.skip_mount_home=true",
        ]);
        let options = options.unwrap();
        assert_eq!(options.mount_options, ["nodev", "metacopy=on"]);
        assert!(options.skip_mount_home);
    }

    #[test]
    fn vfs_has_few_options() {
        let parse = |option: &str| VfsOptions::parse(&[option.to_owned()]);
        let stores = parse("vfs.imagestore=/a,/b").unwrap();
        assert_eq!(
            stores.additional_image_stores,
            [PathBuf::from("/a"), PathBuf::from("/b")]
        );
        assert!(parse("overlay.mountopt=nodev").is_ok());
        for option in ["vfs.mountopt=nodev", "vfs.x=1", "size"] {
            let error = parse(option).unwrap_err().to_string();
            assert!(error.contains(option), "{error}");
        }
    }

    #[test]
    fn btrfs_limits_layers() {
        let parse = |options: &[&str]| {
            BtrfsOptions::parse(&options.iter().map(|&o| o.to_owned()).collect::<Vec<_>>())
        };
        let options = parse(&["btrfs.min_space=1m", "btrfs.size=1.5G"]).unwrap();
        assert_eq!((options.size, options.quotas), (Some(3 << 29), true));
        assert!(!parse(&["overlay.mountopt=nodev"]).unwrap().quotas);
        for options in [
            &["btrfs.min_space=1G", "btrfs.size=1M"][..],
            &["btrfs.size=much"],
            &["btrfs.x=1"],
        ] {
            let error = parse(options).unwrap_err().to_string();
            assert!(error.contains(options[options.len() - 1]), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for option in [
            "overlay.size=10G",
            "overlay.mount_program=/usr/bin/fuse-overlayfs",
            "overlay.x=1",
            "nonsense",
        ] {
            let error = parse(&[option]).unwrap_err();
            assert!(error.to_string().contains(option), "{error}");
        }
        assert!(parse(&["vfs.ignore_chown_errors=1", "overlay.mount_program="]).is_ok());
    }
}
