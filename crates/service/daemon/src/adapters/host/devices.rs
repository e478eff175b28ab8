//! Devices of containers.

use std::{
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use crioxide_engine::ports::{DevicesRequest, PortError};
use crioxide_runtime_spec::{
    Devices,
    devices::{self, DeviceGrant, DeviceRequest},
};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};

/// Directories of /dev whose devices are never handed out as the host's: they are made per container.
const PRIVATE_DIRECTORIES: [&str; 5] = ["pts", "shm", "fd", "mqueue", ".udev"];

/// Configured devices.
#[derive(Debug, Default)]
pub(crate) struct DeviceSettings {
    /// `additional_devices`.
    pub(crate) additional: Vec<DeviceRequest>,
    /// Handlers with `privileged_without_host_devices`.
    pub(crate) without_host_devices: Vec<String>,
    /// `allowed_devices`, for the annotation.
    pub(crate) allowed: Vec<String>,
    /// `device_ownership_from_security_context`.
    pub(crate) owned_by_user: bool,
}

impl DeviceSettings {
    /// The devices of one container.
    pub(super) fn find(&self, request: &DevicesRequest) -> Result<Devices, PortError> {
        let mut granted = Vec::new();
        for device in &self.additional {
            collect(device, &mut granted)?;
        }
        for device in &request.requested {
            let device = DeviceRequest {
                host_path: device.host_path.clone().into(),
                container_path: device.container_path.clone().into(),
                access: if device.permissions.is_empty() {
                    "rwm".to_owned()
                } else {
                    device.permissions.clone()
                },
            };
            collect(&device, &mut granted)?;
        }
        for device in &devices::parse_annotation(&request.annotated, &self.allowed)? {
            collect(device, &mut granted)?;
        }
        if self.owned_by_user {
            for grant in &mut granted {
                if request.user.is_some() {
                    grant.device.set_uid(request.user);
                }
                if request.group.is_some() {
                    grant.device.set_gid(request.group);
                }
            }
        }
        let host = if request.privileged && !self.without_host_devices.contains(&request.handler) {
            let mut found = Vec::new();
            walk(Path::new("/dev"), &mut found);
            Some(found)
        } else {
            None
        };
        Ok(Devices { granted, host })
    }
}

/// A device, or all devices below a directory.
fn collect(request: &DeviceRequest, granted: &mut Vec<DeviceGrant>) -> Result<(), PortError> {
    let failed = |error: std::io::Error| format!("device {}: {error}", request.host_path.display());
    let metadata = std::fs::metadata(&request.host_path).map_err(failed)?;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(&request.host_path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let inner = DeviceRequest {
                host_path: entry.path(),
                container_path: request.container_path.join(entry.file_name()),
                access: request.access.clone(),
            };
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() || kind.is_block_device() || kind.is_char_device() {
                collect(&inner, granted)?;
            }
        }
        return Ok(());
    }
    let device = node(&request.container_path, &metadata).ok_or_else(|| {
        format!(
            "device {} is not a device node",
            request.host_path.display()
        )
    })?;
    granted.push(DeviceGrant {
        device,
        access: request.access.clone(),
    });
    Ok(())
}

/// All device nodes below `directory`; what vanishes meanwhile is left out.
fn walk(directory: &Path, found: &mut Vec<LinuxDevice>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else {
            continue;
        };
        if kind.is_dir() {
            if !PRIVATE_DIRECTORIES
                .iter()
                .any(|name| entry.file_name() == *name)
            {
                walk(&path, found);
            }
        } else if (kind.is_block_device() || kind.is_char_device())
            && path != Path::new("/dev/console")
        {
            found.extend(
                entry
                    .metadata()
                    .ok()
                    .and_then(|metadata| node(&path, &metadata)),
            );
        }
    }
}

fn node(path: &Path, metadata: &std::fs::Metadata) -> Option<LinuxDevice> {
    let kind = match metadata.file_type() {
        kind if kind.is_block_device() => LinuxDeviceType::B,
        kind if kind.is_char_device() => LinuxDeviceType::C,
        _ => return None,
    };
    let number = metadata.rdev();
    LinuxDeviceBuilder::default()
        .path(PathBuf::from(path))
        .typ(kind)
        .major(i64::from(rustix::fs::major(number)))
        .minor(i64::from(rustix::fs::minor(number)))
        .file_mode(metadata.mode() & 0o7777)
        .uid(metadata.uid())
        .gid(metadata.gid())
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_found_with_its_numbers() {
        let settings = DeviceSettings::default();
        let requested = vec![crioxide_cri_api::v1::Device {
            container_path: "/dev/nothing".into(),
            host_path: "/dev/null".into(),
            permissions: "r".into(),
        }];
        let found = settings
            .find(&DevicesRequest {
                requested,
                ..Default::default()
            })
            .unwrap();
        let device = &found.granted[0].device;
        assert_eq!((device.major(), device.minor()), (1, 3));
        assert_eq!(device.path(), Path::new("/dev/nothing"));
        assert!(found.host.is_none());
    }

    #[test]
    fn other_files_are_refused() {
        let requested = vec![crioxide_cri_api::v1::Device {
            host_path: "/proc/version".into(),
            ..Default::default()
        }];
        let error = DeviceSettings::default()
            .find(&DevicesRequest {
                requested,
                ..Default::default()
            })
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("/proc/version is not a device node"),
            "{error}"
        );
    }
}
