//! From a source to the one image to copy: platform choice, manifest, config.

use crioxide_names::{Digest, ImageId};
use crioxide_registry::{ContentHasher, Signature};

use super::CopyError;
use crate::config::{ImageConfig, MAX_CONFIG};
use crate::manifest::{Descriptor, ImageManifest, Manifest, ManifestError, Schema1, choose};
use crate::platform::Platform;
use crate::source::{RawManifest, Source};
use crate::trust::Trust;

/// Everything about an image but its layers' content.
#[derive(Debug)]
pub(super) struct ResolvedImage {
    pub(super) id: ImageId,
    /// What the source's name led to.
    pub(super) top: RawManifest,
    /// The image's own manifest, if `top` is a list.
    pub(super) instance: Option<RawManifest>,
    pub(super) config_digest: Digest,
    pub(super) config_bytes: Vec<u8>,
    pub(super) config: ImageConfig,
    /// Blobs, base layer first.
    pub(super) layers: Vec<Descriptor>,
    /// Digests of their tars.
    pub(super) diff_ids: Vec<Digest>,
    /// Those of its own manifest.
    pub(super) signatures: Vec<Signature>,
}

/// An image as far as it can be known before its layers are.
#[derive(Debug)]
pub(super) enum Resolved {
    /// Everything.
    Image(Box<ResolvedImage>),
    /// One in the old format, whose config follows from its layers.
    Schema1(Manifests, Schema1),
}

/// The documents that led to an image.
#[derive(Debug)]
pub(super) struct Manifests {
    pub(super) top: RawManifest,
    /// The image's own manifest, if `top` is a list.
    pub(super) instance: Option<RawManifest>,
}

impl Manifests {
    /// The digest of the image's own manifest, which signatures are about.
    pub(super) fn own(&self) -> &Digest {
        &self.instance.as_ref().unwrap_or(&self.top).digest
    }
}

/// What the source's name leads to, if it may be used. Not even its config is looked at before that is known.
pub(super) async fn resolve(
    source: &dyn Source,
    platform: &Platform,
    trust: &Trust,
) -> Result<(Resolved, Vec<Signature>), CopyError> {
    let top = source.top_manifest().await?;
    let (manifest, instance) = match Manifest::parse(&top.bytes, &top.media_type, &top.digest)? {
        Manifest::Image(manifest) => (manifest, None),
        Manifest::Schema1(manifest) => {
            let manifests = Manifests {
                top,
                instance: None,
            };
            let signatures = trust.verify(source, manifests.own()).await?;
            return Ok((Resolved::Schema1(manifests, manifest), signatures));
        }
        Manifest::List(instances) => {
            let chosen = choose(&instances, platform, &top.digest)?;
            let mut instance = source.manifest(&chosen.digest).await?;
            if instance.media_type.is_empty() {
                instance.media_type.clone_from(&chosen.media_type);
            }
            match Manifest::parse(&instance.bytes, &instance.media_type, &instance.digest)? {
                Manifest::Image(manifest) => (manifest, Some(instance)),
                Manifest::Schema1(manifest) => {
                    let instance = Some(instance);
                    let manifests = Manifests { top, instance };
                    let signatures = trust.verify(source, manifests.own()).await?;
                    return Ok((Resolved::Schema1(manifests, manifest), signatures));
                }
                Manifest::List(_) => {
                    let digest = instance.digest.to_string();
                    let reason = "a list inside a list".to_owned();
                    return Err(ManifestError::Invalid { digest, reason }.into());
                }
            }
        }
    };
    let manifests = Manifests { top, instance };
    let signatures = trust.verify(source, manifests.own()).await?;
    let config_bytes = read_config(source, &manifest.config).await?;
    let image = ResolvedImage::new(manifests, manifest, config_bytes, platform)?;
    Ok((Resolved::Image(Box::new(image)), signatures))
}

impl ResolvedImage {
    /// Puts together what belongs together, and checks that it does.
    pub(super) fn new(
        manifests: Manifests,
        manifest: ImageManifest,
        config_bytes: Vec<u8>,
        platform: &Platform,
    ) -> Result<Self, CopyError> {
        let flawed = |reason: String| CopyError::Config {
            digest: manifest.config.digest.to_string(),
            reason,
        };
        let config = ImageConfig::parse(&config_bytes).map_err(|e| flawed(e.to_string()))?;
        if !config.os.is_empty() && config.os != platform.os {
            return Err(flawed(format!(
                "the image is for operating system `{}`, not `{}`",
                config.os, platform.os
            )));
        }
        if !config.architecture.is_empty() && config.architecture != platform.architecture {
            tracing::info!(
                image = config.architecture,
                host = platform.architecture,
                "image is for another architecture"
            );
        }
        let diff_ids = config.diff_ids().map_err(flawed)?;
        if diff_ids.len() != manifest.layers.len() {
            let counts = format!(
                "{} diff ids for {} layers",
                diff_ids.len(),
                manifest.layers.len()
            );
            return Err(flawed(counts));
        }
        // A longer digest than SHA-256 cannot be an id as it is.
        let id = ImageId::parse(manifest.config.digest.hex()).map_err(|e| flawed(e.to_string()))?;
        Ok(Self {
            id,
            top: manifests.top,
            instance: manifests.instance,
            config_digest: manifest.config.digest,
            config_bytes,
            config,
            layers: manifest.layers,
            diff_ids,
            signatures: Vec::new(),
        })
    }
}

async fn read_config(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>, CopyError> {
    let flawed = |reason: String| CopyError::Config {
        digest: descriptor.digest.to_string(),
        reason,
    };
    if descriptor.size > MAX_CONFIG {
        return Err(flawed(format!(
            "{} bytes, more than {MAX_CONFIG}",
            descriptor.size
        )));
    }
    let mut blob = source.blob(descriptor).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = blob.next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > descriptor.size {
            break;
        }
    }
    if bytes.len() as u64 != descriptor.size {
        return Err(flawed(format!(
            "its size is not {} as the manifest says",
            descriptor.size
        )));
    }
    let actual = ContentHasher::digest_of(descriptor.digest.algorithm(), &bytes);
    if actual != descriptor.digest {
        return Err(flawed(format!("its content has digest `{actual}`")));
    }
    Ok(bytes)
}
