//! The image configuration: what an image says about the containers made of it.

use std::collections::BTreeMap;

use crioxide_names::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::manifest::or_default;

/// A config blob larger than this is refused (bytes).
pub(crate) const MAX_CONFIG: u64 = 4 << 20;

/// An image configuration (OCI image-spec `config.md`), with Docker's laxness about `null`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339; empty if not said.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub created: String,
    /// Who made it.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub author: String,
    /// CPU architecture in Go's words.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// Variant of the architecture.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub variant: String,
    /// Operating system in Go's words.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// Defaults for containers.
    #[serde(default, deserialize_with = "or_default")]
    pub config: ContainerDefaults,
    /// The layers' content.
    #[serde(default, deserialize_with = "or_default")]
    pub rootfs: RootFs,
    /// How each layer came to be; not interpreted.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<Value>,
}

/// Defaults for containers of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerDefaults {
    /// `user[:group]`, by name or number.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// Ports as `80/tcp`, each with an empty object.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub exposed_ports: BTreeMap<String, Value>,
    /// `NAME=value` entries.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// Leading words of the command line.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub entrypoint: Vec<String>,
    /// Trailing words of the command line.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub cmd: Vec<String>,
    /// Mount points of volumes, each with an empty object.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub volumes: BTreeMap<String, Value>,
    /// Directory to start in.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Free annotations.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// Signal that ends the container, by name or number.
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
}

/// The layers' content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    pub kind: String,
    /// Digests of the uncompressed layers, base layer first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<String>,
}

impl ImageConfig {
    /// Parses a config blob.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Digests of the uncompressed layers, or the first that is none.
    pub(crate) fn diff_ids(&self) -> Result<Vec<Digest>, String> {
        self.rootfs
            .diff_ids
            .iter()
            .map(|text| Digest::parse(text).map_err(|e| e.to_string()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_absent() {
        let text = r#"{"created":null,"config":{"Env":null,"Cmd":["sh"],"Volumes":{"/data":{}},"Labels":null,"User":"33:33"},
            "rootfs":{"type":"layers","diff_ids":["sha256:zz"]},"history":null,"docker_version":"1"}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.config.user, "33:33");
        assert!(config.config.volumes.contains_key("/data"));
        assert!(config.diff_ids().unwrap_err().contains("sha256:zz"));
        assert_eq!(
            ImageConfig::parse(br#"{"config":null}"#).unwrap(),
            ImageConfig::default()
        );
        assert!(ImageConfig::parse(br#"{"config":{"Env":"x"}}"#).is_err());
    }
}
