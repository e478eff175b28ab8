//! The options of the aufs driver.

use super::DriverOptionError;
use super::entries::{self, items};

/// What `aufs.*` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct AufsOptions {
    /// For every mount.
    pub(crate) mount_options: Vec<String>,
}

impl AufsOptions {
    pub(crate) fn parse(options: &[String]) -> Result<Self, DriverOptionError> {
        let mut parsed = Self::default();
        entries::read(options, &["aufs"], |key, value| {
            match key {
                "mountopt" => parsed.mount_options = items(value),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one() {
        let parse = |option: &str| AufsOptions::parse(&[option.to_owned()]);
        let options = parse("aufs.mountopt=dirperm1,noatime").unwrap();
        assert_eq!(options.mount_options, ["dirperm1", "noatime"]);
        assert!(parse("overlay.size=1G").is_ok());
        let error = parse("aufs.size=1G").unwrap_err().to_string();
        assert!(error.contains("aufs.size=1G"), "{error}");
    }
}
