//! Manifests as registries serve them: Docker schema 1 and 2 and OCI, single or lists.

mod schema1;

use std::collections::BTreeMap;

use crioxide_names::Digest;
use serde::{Deserialize, Deserializer, Serialize};

use crate::platform::Platform;
pub(crate) use schema1::Schema1;

/// More layers than this cannot be mounted and are an attack (the driver's own limit is 500).
const MAX_LAYERS: usize = 500;
/// More entries than this in a list are an attack.
const MAX_INSTANCES: usize = 10_000;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// A manifest of either sort.
#[derive(Debug)]
pub(crate) enum Manifest {
    /// One image.
    Image(ImageManifest),
    /// One image in the old format, which does not say all that is to be known.
    Schema1(Schema1),
    /// One of several images is to be chosen.
    List(Vec<Instance>),
}

/// One image: its config and layers, base layer first.
#[derive(Debug, Clone)]
pub(crate) struct ImageManifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// An entry of a list or index.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) digest: Digest,
    pub(crate) platform: Option<Platform>,
    pub(crate) media_type: String,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Content somewhere else, by digest and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    /// Bytes.
    pub(crate) size: u64,
    /// Other servers that have it.
    pub(crate) urls: Vec<String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not of the shape its type has.
    #[error("parse manifest `{digest}`")]
    Parse {
        /// Digest of the manifest.
        digest: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Valid JSON that makes no sense as a manifest.
    #[error("manifest `{digest}`: {reason}")]
    Invalid {
        /// Digest of the manifest.
        digest: String,
        /// What is wrong.
        reason: String,
    },
    /// Something else than a container image: an artifact.
    #[error("manifest `{digest}` is not a container image: {reason}")]
    NotAnImage {
        /// Digest of the manifest.
        digest: String,
        /// What it is instead.
        reason: String,
    },
    /// A list without an entry for this machine.
    #[error(
        "manifest list `{digest}` has no image for {platform}; it has {}",
        listed(offers)
    )]
    NoPlatform {
        /// Digest of the list.
        digest: String,
        /// What was looked for.
        platform: String,
        /// What the list has.
        offers: Vec<String>,
    },
}

fn listed(offers: &[String]) -> String {
    if offers.is_empty() {
        return "no images at all".to_owned();
    }
    offers.join(", ")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    #[serde(default, deserialize_with = "or_default")]
    media_type: String,
    #[serde(default, deserialize_with = "or_default")]
    artifact_type: String,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default, deserialize_with = "or_default")]
    media_type: String,
    digest: String,
    size: i64,
    platform: Option<RawPlatform>,
    #[serde(default, deserialize_with = "or_default")]
    urls: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct RawPlatform {
    #[serde(default, deserialize_with = "or_default")]
    os: String,
    #[serde(default, deserialize_with = "or_default")]
    architecture: String,
    #[serde(default, deserialize_with = "or_default")]
    variant: String,
}

/// Reads `null` as absent, as Go does.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Manifest {
    /// Parses a manifest. `declared` is the type its server gave, used if it names none itself.
    pub(crate) fn parse(
        bytes: &[u8],
        declared: &str,
        digest: &Digest,
    ) -> Result<Self, ManifestError> {
        let invalid = |reason: String| ManifestError::Invalid {
            digest: digest.to_string(),
            reason,
        };
        let not_an_image = |reason: String| ManifestError::NotAnImage {
            digest: digest.to_string(),
            reason,
        };
        let raw: Raw = serde_json::from_slice(bytes).map_err(|source| ManifestError::Parse {
            digest: digest.to_string(),
            source,
        })?;
        if raw.schema_version == 1 {
            let payload = crioxide_registry::signed_payload(bytes);
            let parsed = Schema1::parse(payload.as_deref().unwrap_or(bytes));
            return parsed.map(Self::Schema1).map_err(invalid);
        }
        if raw.schema_version != 2 {
            return Err(invalid(format!(
                "manifest schema {} is not supported",
                raw.schema_version
            )));
        }
        let media_type = if raw.media_type.is_empty() {
            declared
        } else {
            &raw.media_type
        };
        let is_list = match media_type {
            OCI_INDEX | DOCKER_LIST => true,
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            _ => raw.manifests.is_some(),
        };
        // A document that is both could be read as either, by whom it suits.
        if raw.manifests.is_some() && (raw.config.is_some() || raw.layers.is_some()) {
            return Err(invalid("both a list and an image".to_owned()));
        }
        if is_list {
            let entries = raw
                .manifests
                .ok_or_else(|| invalid("a list without `manifests`".to_owned()))?;
            if entries.len() > MAX_INSTANCES {
                return Err(invalid(format!(
                    "{} entries, more than {MAX_INSTANCES}",
                    entries.len()
                )));
            }
            let instances = entries
                .into_iter()
                .map(RawDescriptor::instance)
                .collect::<Result<_, _>>();
            return Ok(Self::List(instances.map_err(invalid)?));
        }
        if !raw.artifact_type.is_empty() {
            return Err(not_an_image(format!(
                "an artifact of type `{}`",
                raw.artifact_type
            )));
        }
        let config = raw
            .config
            .ok_or_else(|| invalid("no config".to_owned()))?
            .descriptor()
            .map_err(invalid)?;
        if !matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG | "") {
            return Err(not_an_image(format!(
                "config of type `{}`",
                config.media_type
            )));
        }
        let layers = raw.layers.unwrap_or_default();
        if layers.len() > MAX_LAYERS {
            return Err(invalid(format!(
                "{} layers, more than {MAX_LAYERS}",
                layers.len()
            )));
        }
        let layers = layers
            .into_iter()
            .map(RawDescriptor::descriptor)
            .collect::<Result<_, _>>();
        Ok(Self::Image(ImageManifest {
            config,
            layers: layers.map_err(invalid)?,
        }))
    }
}

impl RawDescriptor {
    fn descriptor(self) -> Result<Descriptor, String> {
        let digest = Digest::parse(&self.digest).map_err(|e| e.to_string())?;
        let size =
            u64::try_from(self.size).map_err(|_| format!("size {} of `{digest}`", self.size))?;
        Ok(Descriptor {
            media_type: self.media_type,
            digest,
            size,
            urls: self.urls,
            annotations: self.annotations,
        })
    }

    fn instance(self) -> Result<Instance, String> {
        Ok(Instance {
            digest: Digest::parse(&self.digest).map_err(|e| e.to_string())?,
            platform: self.platform.map(|p| Platform {
                os: p.os,
                architecture: p.architecture,
                variant: p.variant,
            }),
            media_type: self.media_type,
            annotations: self.annotations,
        })
    }
}

/// The entry of a list for `platform`.
pub(crate) fn choose<'a>(
    instances: &'a [Instance],
    platform: &Platform,
    list: &Digest,
) -> Result<&'a Instance, ManifestError> {
    let chosen = platform.choose(instances.iter().map(|instance| instance.platform.as_ref()));
    chosen
        .map(|position| &instances[position])
        .ok_or_else(|| ManifestError::NoPlatform {
            digest: list.to_string(),
            platform: platform.to_string(),
            offers: instances
                .iter()
                .take(20)
                .map(|i| {
                    i.platform
                        .as_ref()
                        .map_or_else(|| "unknown".to_owned(), ToString::to_string)
                })
                .collect(),
        })
}

/// The schema 2 manifest of an image that came without one.
pub(crate) fn synthesize(config: &Descriptor, layers: &[Descriptor]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Content<'a> {
        media_type: &'a str,
        size: u64,
        digest: &'a str,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Image<'a> {
        schema_version: u32,
        media_type: &'a str,
        config: Content<'a>,
        layers: Vec<Content<'a>>,
    }
    fn content<'a>(media_type: &'a str, descriptor: &'a Descriptor) -> Content<'a> {
        Content {
            media_type,
            size: descriptor.size,
            digest: descriptor.digest.as_str(),
        }
    }
    let image = Image {
        schema_version: 2,
        media_type: DOCKER_MANIFEST,
        config: content(DOCKER_CONFIG, config),
        layers: layers
            .iter()
            .map(|layer| content(DOCKER_LAYER, layer))
            .collect(),
    };
    serde_json::to_vec(&image).expect("text and numbers are always JSON")
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
