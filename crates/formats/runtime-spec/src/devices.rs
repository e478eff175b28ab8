//! Devices of containers: parsing of requests and the rules of the device cgroup.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup};
use thiserror::Error;

/// A device text that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ParseDeviceError {
    /// Not `host[:container[:mode]]` with absolute paths.
    #[error("{text} is not a valid device")]
    Invalid {
        /// The text.
        text: String,
    },
    /// Letters other than r, w, m, or repeated ones.
    #[error("invalid device mode `{mode}` in {text}")]
    Mode {
        /// The text.
        text: String,
        /// The mode.
        mode: String,
    },
    /// Not in the configured list.
    #[error("device {path} is specified but is not in allowed_devices")]
    NotAllowed {
        /// The device on the node.
        path: String,
    },
}

/// A device someone asks for; the node still has to be asked what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRequest {
    /// File on the node; a directory stands for everything below it.
    pub host_path: PathBuf,
    /// File in the container.
    pub container_path: PathBuf,
    /// Any of `r`, `w` and `m`.
    pub access: String,
}

/// A device the container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceGrant {
    /// The node to create.
    pub device: LinuxDevice,
    /// Any of `r`, `w` and `m`.
    pub access: String,
}

/// Parses `host[:container[:mode]]`; `host:mode` is understood too.
///
/// # Errors
/// Fails for relative paths, too many parts, and unknown modes.
pub fn parse(text: &str) -> Result<DeviceRequest, ParseDeviceError> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, access) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, second] if second.starts_with('/') => (host, second, "rwm"),
        [host, mode] => (host, host, mode),
        [host, container, mode] => (host, container, mode),
        _ => {
            return Err(ParseDeviceError::Invalid {
                text: text.to_owned(),
            });
        }
    };
    let usable = |path: &str| {
        path.starts_with('/') && !path.contains('\0') && !path.split('/').any(|part| part == "..")
    };
    if !usable(host) || !usable(container) {
        return Err(ParseDeviceError::Invalid {
            text: text.to_owned(),
        });
    }
    if !valid_access(access) {
        return Err(ParseDeviceError::Mode {
            text: text.to_owned(),
            mode: access.to_owned(),
        });
    }
    Ok(DeviceRequest {
        host_path: host.into(),
        container_path: container.into(),
        access: access.to_owned(),
    })
}

/// Parses the comma-separated list of the devices annotation against the configured `allowed` ones.
///
/// # Errors
/// Fails for the first device that is malformed or not allowed.
pub fn parse_annotation(
    list: &str,
    allowed: &[String],
) -> Result<Vec<DeviceRequest>, ParseDeviceError> {
    list.split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| {
            let request = parse(text)?;
            if !allowed
                .iter()
                .any(|path| Path::new(path) == request.host_path)
            {
                return Err(ParseDeviceError::NotAllowed {
                    path: request.host_path.display().to_string(),
                });
            }
            Ok(request)
        })
        .collect()
}

/// The rule that denies everything, which every list of rules begins with.
#[must_use]
pub fn deny_all() -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(false);
    rule.set_typ(None);
    rule.set_access(Some("rwm".to_owned()));
    rule
}

/// The rule of privileged containers.
#[must_use]
pub fn allow_all() -> LinuxDeviceCgroup {
    let mut rule = deny_all();
    rule.set_allow(true);
    rule
}

/// The rule for one device.
#[must_use]
pub fn allow(grant: &DeviceGrant) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true);
    rule.set_typ(Some(grant.device.typ()));
    rule.set_major(Some(grant.device.major()));
    rule.set_minor(Some(grant.device.minor()));
    rule.set_access(Some(grant.access.clone()));
    rule
}

fn valid_access(access: &str) -> bool {
    !access.is_empty()
        && access.bytes().all(|byte| b"rwm".contains(&byte))
        && access
            .bytes()
            .enumerate()
            .all(|(at, byte)| !access.as_bytes()[..at].contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms() {
        let parsed = |text: &str| {
            parse(text).map(|request| {
                (
                    request.host_path.display().to_string(),
                    request.container_path.display().to_string(),
                    request.access,
                )
            })
        };
        let texts = |host: &str, container: &str, access: &str| {
            Ok((host.to_owned(), container.to_owned(), access.to_owned()))
        };
        assert_eq!(parsed("/dev/fuse"), texts("/dev/fuse", "/dev/fuse", "rwm"));
        assert_eq!(
            parsed("/dev/fuse:/dev/f"),
            texts("/dev/fuse", "/dev/f", "rwm")
        );
        assert_eq!(
            parsed("/dev/fuse:rw"),
            texts("/dev/fuse", "/dev/fuse", "rw")
        );
        assert_eq!(
            parsed("/dev/fuse:/dev/f:r"),
            texts("/dev/fuse", "/dev/f", "r")
        );
    }

    #[test]
    fn mistakes_are_named() {
        for text in [
            "",
            "fuse",
            "/dev/fuse:fuse:rw",
            "/a:/b:r:w",
            "/dev/../etc",
            "/dev/a:/b/../../c:r",
        ] {
            assert!(
                parse(text)
                    .unwrap_err()
                    .to_string()
                    .contains("is not a valid device"),
                "{text}"
            );
        }
        for text in ["/dev/fuse:x", "/dev/fuse:/dev/f:", "/dev/fuse:/dev/f:rr"] {
            assert!(
                parse(text)
                    .unwrap_err()
                    .to_string()
                    .contains("invalid device mode"),
                "{text}"
            );
        }
    }

    #[test]
    fn annotation_needs_permission() {
        let allowed = ["/dev/fuse".to_owned()];
        assert_eq!(
            parse_annotation("/dev/fuse, /dev/fuse:/dev/x:r", &allowed)
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            parse_annotation("/dev/fuse,/dev/sda", &allowed),
            Err(ParseDeviceError::NotAllowed {
                path: "/dev/sda".into()
            })
        );
    }
}
