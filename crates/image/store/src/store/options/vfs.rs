//! The options of the vfs driver.

use super::DriverOptionError;
use super::entries;
use std::path::PathBuf;

/// What `vfs.*` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct VfsOptions {
    pub(crate) additional_image_stores: Vec<PathBuf>,
}

impl VfsOptions {
    pub(crate) fn parse(options: &[String]) -> Result<Self, DriverOptionError> {
        let stores = entries::read(options, &["vfs"], |key, value| {
            Ok(match key {
                "ignore_chown_errors" => super::boolean(value) == Some(false),
                "mountopt" => value.is_empty(),
                _ => false,
            })
        })?;
        Ok(Self {
            additional_image_stores: stores,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_few() {
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
}
