//! The files that say which device of the pool is which layer, as containers/storage wrote them.
//!
//! A device is made or deleted within a transaction: a file says what is about to be done, then it is done in the pool, then
//! in the files, and last the pool's own transaction number is raised to that of the file. Of a crash in between the next one
//! who starts a transaction finds the pool's number behind, and undoes it.

use crate::LayerId;
use crate::driver::{DriverError, accept_missing};
use crioxide_files::{AtomicOptions, atomic_write, read_limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const SET: &str = "deviceset-metadata";
const TRANSACTION: &str = "transaction-metadata";
/// The file of the device that all others come from; in a transaction it has no name.
pub(super) const BASE: &str = "base";
/// Bytes that a file has at most.
const MOST: u64 = 64 << 10;

/// One device of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Device {
    /// Its number in the pool.
    pub(super) device_id: u32,
    /// Bytes.
    pub(super) size: u64,
    pub(super) transaction_id: u64,
    /// Of the base only: there is a file system on it.
    #[serde(default)]
    pub(super) initialized: bool,
    /// To be deleted when it is not in use any more.
    #[serde(default)]
    pub(super) deleted: bool,
}

/// What is known of all devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DeviceSet {
    pub(super) next_device_id: u32,
    #[serde(rename = "BaseDeviceUUID")]
    pub(super) base_uuid: String,
    #[serde(rename = "BaseDeviceFilesystem")]
    pub(super) base_file_system: String,
}

/// What was about to be done last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Transaction {
    pub(super) open_transaction_id: u64,
    pub(super) device_hash: String,
    pub(super) device_id: u32,
}

/// The directory with the files.
#[derive(Debug)]
pub(super) struct Metadata(PathBuf);

impl Metadata {
    pub(super) fn new(home: &Path) -> Self {
        Self(home.join("metadata"))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.0
    }

    /// The device called `name`: a layer's id or [`BASE`].
    pub(super) fn device(&self, name: &str) -> Result<Option<Device>, DriverError> {
        self.read(name)
    }

    pub(super) fn write_device(&self, name: &str, device: &Device) -> Result<(), DriverError> {
        self.write(name, device)
    }

    pub(super) fn remove_device(&self, name: &str) -> Result<(), DriverError> {
        let path = self.0.join(name);
        accept_missing(fs::remove_file(&path))
            .map_err(|error| DriverError::io("remove", path, error))
    }

    /// All devices by name, the base among them.
    pub(super) fn devices(&self) -> Result<Vec<(String, Device)>, DriverError> {
        let fail = |error| DriverError::io("list", &self.0, error);
        let mut devices = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            let is_device = |name: &&str| *name == BASE || LayerId::parse(name).is_ok();
            let Some(name) = name.to_str().filter(is_device) else {
                continue;
            };
            if let Some(device) = self.device(name)? {
                devices.push((name.to_owned(), device));
            }
        }
        Ok(devices)
    }

    pub(super) fn set(&self) -> Result<DeviceSet, DriverError> {
        Ok(self.read(SET)?.unwrap_or_default())
    }

    pub(super) fn write_set(&self, set: &DeviceSet) -> Result<(), DriverError> {
        self.write(SET, set)
    }

    pub(super) fn transaction(&self) -> Result<Option<Transaction>, DriverError> {
        self.read(TRANSACTION)
    }

    pub(super) fn write_transaction(&self, open: &Transaction) -> Result<(), DriverError> {
        self.write(TRANSACTION, open)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, DriverError> {
        let path = self.0.join(name);
        let bytes = match read_limited(&path, MOST) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(DriverError::io("read", path, io::Error::other(error))),
        };
        let parsed = serde_json::from_slice(&bytes);
        parsed
            .map(Some)
            .map_err(|error| DriverError::io("parse", path, error))
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), DriverError> {
        let path = self.0.join(name);
        let written = serde_json::to_vec(value)
            .map_err(io::Error::from)
            .and_then(|bytes| {
                atomic_write(&path, &bytes, AtomicOptions::default()).map_err(io::Error::other)
            });
        written.map_err(|error| DriverError::io("write", path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_those_of_containers_storage() {
        let home = tempfile::tempdir().unwrap();
        let metadata = Metadata::new(home.path());
        fs::create_dir(metadata.directory()).unwrap();
        let id = "ab".repeat(32);
        let files = [
            (
                id.as_str(),
                r#"{"device_id":7,"size":10737418240,"transaction_id":12,"initialized":false,"deleted":false}"#,
            ),
            (
                BASE,
                r#"{"device_id":1,"size":10737418240,"transaction_id":1,"initialized":true,"deleted":false}"#,
            ),
            (
                SET,
                r#"{"next_device_id":8,"BaseDeviceUUID":"e8ee3fa4-ed22-4ff1-9a60-d4a9a6ae9d5d","BaseDeviceFilesystem":"xfs"}"#,
            ),
            (
                TRANSACTION,
                r#"{"open_transaction_id":12,"device_hash":"abab","device_id":7}"#,
            ),
        ];
        for (name, text) in files {
            fs::write(metadata.directory().join(name), text).unwrap();
        }
        fs::write(metadata.directory().join(".tmp123"), "").unwrap();
        let mut devices = metadata.devices().unwrap();
        devices.sort_by_key(|(_, device)| device.device_id);
        let names: Vec<_> = devices.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [BASE, id.as_str()]);
        for (name, device) in &devices {
            metadata.write_device(name, device).unwrap();
        }
        metadata.write_set(&metadata.set().unwrap()).unwrap();
        let open = metadata.transaction().unwrap().unwrap();
        metadata.write_transaction(&open).unwrap();
        for (name, text) in files {
            let written = fs::read_to_string(metadata.directory().join(name)).unwrap();
            assert_eq!(written, text);
        }
        metadata.remove_device(&id).unwrap();
        assert_eq!(metadata.device(&id).unwrap(), None);
        fs::write(metadata.directory().join(BASE), "{").unwrap();
        let error = metadata.devices().unwrap_err().to_string();
        assert!(error.contains("metadata/base"), "{error}");
    }
}
