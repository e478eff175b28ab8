//! The options of the btrfs driver.

use super::DriverOptionError;
use super::entries::{self, bytes};
use std::path::PathBuf;

/// What `btrfs.*` says.
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
        let (mut size, mut least) = (None, 0);
        let stores = entries::read(options, &["btrfs"], |key, value| {
            match key {
                "size" => size = Some(bytes(value)?),
                "min_space" => least = bytes(value)?,
                "mountopt" if value.is_empty() => {}
                _ => return Ok(false),
            }
            match size {
                Some(size) if size < least => Err("size is less than min_space".into()),
                _ => Ok(true),
            }
        })?;
        Ok(Self {
            size,
            quotas: size.is_some() || least > 0,
            additional_image_stores: stores,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_limited() {
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
}
