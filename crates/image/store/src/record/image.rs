//! Images: `images.json`.

use super::{BigDataDigests, BigDataSizes, Record, UnknownFields, null_is_empty};
use serde::{Deserialize, Serialize};

/// An image.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageRecord {
    /// 64 hex digits; of the config blob for schema 2 and OCI images.
    pub id: String,
    /// Digest of the big data item `manifest`.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub digest: String,
    /// Full references.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub names: Vec<String>,
    /// Names the image has or once had, newest first.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub names_history: Vec<String>,
    /// Id of the top layer.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "String::is_empty"
    )]
    pub layer: String,
    /// Top layers with the same content and other owners.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub mapped_layers: Vec<String>,
    /// JSON of the image library: signature sizes.
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
    /// Marks.
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

impl ImageRecord {
    /// All digests by which the image can be found: its own and those of every manifest kept for it.
    pub fn digests(&self) -> impl Iterator<Item = &str> {
        let manifests = self.big_data_digests.iter();
        let manifests = manifests
            .filter(|(key, _)| key.starts_with("manifest"))
            .map(|(_, digest)| digest.as_str());
        let own = Some(self.digest.as_str()).filter(|digest| !digest.is_empty());
        own.into_iter().chain(manifests)
    }

    /// Top layers, mapped ones included.
    pub fn top_layers(&self) -> impl Iterator<Item = &str> {
        let own = Some(self.layer.as_str()).filter(|layer| !layer.is_empty());
        own.into_iter()
            .chain(self.mapped_layers.iter().map(String::as_str))
    }
}

impl Record for ImageRecord {
    const KIND: &'static str = "image";

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
