//! Containers: `containers.json` and `volatile-containers.json`.

use super::{BigDataDigests, BigDataSizes, IdRange, Record, UnknownFields, null_is_empty};
use serde::{Deserialize, Serialize};

/// A container: a writable layer on top of an image, and what its owner wants to remember about it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ContainerRecord {
    /// 64 hex digits.
    pub id: String,
    /// Unique among containers.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub names: Vec<String>,
    /// Image id, or empty.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub image: String,
    /// Id of the writable layer.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub layer: String,
    /// The owner's JSON.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub metadata: String,
    /// Keys of the big data, in order of creation.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub big_data_names: Vec<String>,
    /// Sizes of the big data.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BigDataSizes::is_empty"
    )]
    pub big_data_sizes: BigDataSizes,
    /// Digests of the big data.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BigDataDigests::is_empty"
    )]
    pub big_data_digests: BigDataDigests,
    /// RFC 3339, UTC.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub created: String,
    /// User ids of the container's user namespace.
    #[serde(rename = "uidmap")]
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub uid_map: Vec<IdRange>,
    /// Group ids of the container's user namespace.
    #[serde(rename = "gidmap")]
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub gid_map: Vec<IdRange>,
    /// `ProcessLabel`, `MountLabel`, `Volatile`, `MountOpts`, ...
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "UnknownFields::is_empty"
    )]
    pub flags: UnknownFields,
    /// Fields without a name here.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl ContainerRecord {
    /// Whether the container need not survive a power cut.
    pub fn is_volatile(&self) -> bool {
        self.flags
            .get("Volatile")
            .and_then(serde_json::Value::as_bool)
            == Some(true)
    }

    /// SELinux label of the processes; empty without SELinux.
    pub fn process_label(&self) -> &str {
        self.text_flag("ProcessLabel")
    }

    /// SELinux label of the files; empty without SELinux.
    pub fn mount_label(&self) -> &str {
        self.text_flag("MountLabel")
    }

    fn text_flag(&self, key: &str) -> &str {
        self.flags
            .get(key)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
    }
}

impl Record for ContainerRecord {
    const KIND: &'static str = "container";

    fn id(&self) -> &str {
        &self.id
    }

    fn names(&self) -> &[String] {
        &self.names
    }

    fn set_names(&mut self, names: Vec<String>) {
        self.names = names;
    }
}
