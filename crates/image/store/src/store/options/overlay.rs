//! The options of the overlay driver.

use super::DriverOptionError;
use super::entries::{self, boolean, bytes, items};
use crioxide_sys::project_quota::ProjectLimits;
use std::path::PathBuf;

/// What `overlay.*` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OverlayOptions {
    /// Mount options for every overlay mount, such as `nodev` and `metacopy=on`.
    pub(crate) mount_options: Vec<String>,
    pub(crate) skip_mount_home: bool,
    pub(crate) ignore_chown_errors: bool,
    /// Mounts in place of the kernel.
    pub(crate) mount_program: Option<PathBuf>,
    /// Of each container's layer.
    pub(crate) limits: ProjectLimits,
    pub(crate) additional_image_stores: Vec<PathBuf>,
}

impl OverlayOptions {
    pub(crate) fn parse(options: &[String]) -> Result<Self, DriverOptionError> {
        let mut parsed = Self::default();
        let stores = entries::read(options, &["overlay2", "overlay"], |key, value| {
            match key {
                "mountopt" => parsed.mount_options = items(value),
                "skip_mount_home" => parsed.skip_mount_home = boolean(value)?,
                "ignore_chown_errors" => parsed.ignore_chown_errors = boolean(value)?,
                "size" => parsed.limits.bytes = bytes(value)?,
                "inodes" => {
                    let inodes = value.parse();
                    parsed.limits.inodes = inodes.map_err(|_| "not a number of inodes")?;
                }
                // What a helper would have there is pulled instead.
                "additionallayerstore" => tracing::warn!(
                    value,
                    "additional layer stores are not used: layers are pulled"
                ),
                "use_composefs" if super::boolean(value) == Some(false) => {}
                "mount_program" => {
                    parsed.mount_program = Some(PathBuf::from(value)).filter(|_| !value.is_empty());
                    let missing = |program: &PathBuf| !program.is_file();
                    if parsed.mount_program.as_ref().is_some_and(missing) {
                        return Err("there is no such program".into());
                    }
                }
                "use_composefs" | "force_mask" => return Err("not built".into()),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        parsed.additional_image_stores = stores;
        Ok(parsed)
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
    fn layers_are_limited_in_bytes_and_inodes() {
        let limits = |options: &[&str]| parse(options).unwrap().limits;
        let both = limits(&["overlay.size=1.5G", "size=2G", "overlay.inodes=1000"]);
        assert_eq!((both.bytes, both.inodes), (2 << 30, 1000));
        assert_eq!(
            limits(&["overlay.mountopt=nodev"]),
            ProjectLimits::default()
        );
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for option in [
            "overlay.size=much",
            "overlay.inodes=1K",
            "overlay.mount_program=/no/such/program",
            "overlay.force_mask=shared",
            "overlay.use_composefs=true",
            "overlay.x=1",
            "overlay.x.y=1",
            "nonsense",
        ] {
            let error = parse(&[option]).unwrap_err();
            assert!(error.to_string().contains(option), "{error}");
        }
        assert!(parse(&["vfs.ignore_chown_errors=1", "overlay.mount_program="]).is_ok());
    }
}
