//! Layers: `layers.json` and `volatile-layers.json`.

use super::{IdRange, Record, UnknownFields, is_zero, null_is_empty};
use serde::{Deserialize, Serialize};

/// How a layer's blob was compressed. Stored as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// A plain tar.
    #[default]
    None,
    /// bzip2.
    Bzip2,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// zstd.
    Zstd,
}

impl Compression {
    /// The number in the record.
    pub fn code(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Bzip2 => 1,
            Self::Gzip => 2,
            Self::Xz => 3,
            Self::Zstd => 4,
        }
    }
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LayerRecord {
    /// 64 hex digits.
    pub id: String,
    /// Unique in the whole store.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub names: Vec<String>,
    /// Id of the layer below; empty for a base layer.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub parent: String,
    /// Opaque.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub metadata: String,
    /// SELinux label used when the layer is mounted.
    #[serde(rename = "mountlabel")]
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub mount_label: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// Digest of the blob as it was pulled.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub compressed_diff_digest: String,
    /// Size of the blob as it was pulled, in bytes.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "is_zero"
    )]
    pub compressed_size: i64,
    /// Digest of the uncompressed tar; empty for layers that are known by a table of contents only.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub diff_digest: String,
    /// Digest of the table of contents of a partially pulled layer.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub toc_digest: String,
    /// Size of the uncompressed tar, in bytes.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "is_zero"
    )]
    pub diff_size: i64,
    /// See [`Compression::code`].
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "is_zero"
    )]
    pub compression: i64,
    /// Sorted user ids of the tar's headers, whiteouts excluded.
    #[serde(rename = "uidset")]
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub uids: Vec<u32>,
    /// Sorted group ids of the tar's headers, whiteouts excluded.
    #[serde(rename = "gidset")]
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub gids: Vec<u32>,
    /// Marks, `incomplete` among them.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "UnknownFields::is_empty"
    )]
    pub flags: UnknownFields,
    /// User ids that the content is stored with.
    #[serde(rename = "uidmap")]
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub uid_map: Vec<IdRange>,
    /// Group ids that the content is stored with.
    #[serde(rename = "gidmap")]
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub gid_map: Vec<IdRange>,
    /// Keys of the layer's big data.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub big_data_names: Vec<String>,
    /// Fields without a name here.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

/// The flag that names who made a layer: see [`LayerRecord::set_owner`].
const OWNER: &str = "io.crioxide.owner";

impl LayerRecord {
    /// Notes the process that made the layer for an image that is not recorded yet. Without it, layers that a crash left
    /// behind look like those of a pull that goes on somewhere else.
    pub(crate) fn set_owner(&mut self, owner: String) {
        self.flags.insert(OWNER.to_owned(), owner.into());
    }

    /// Who made it, if that was noted.
    pub(crate) fn owner(&self) -> Option<&str> {
        self.flags.get(OWNER)?.as_str()
    }

    /// Whether the layer was being made or deleted when its process ended.
    pub fn is_incomplete(&self) -> bool {
        self.flags
            .get("incomplete")
            .and_then(serde_json::Value::as_bool)
            == Some(true)
    }
}

impl Record for LayerRecord {
    const KIND: &'static str = "layer";

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
