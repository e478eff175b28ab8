//! `docker-archive:`: what `docker save` writes. It has no manifest of the registry's sort, so one is made.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use async_trait::async_trait;
use crioxide_names::{Algorithm, Digest, ImageReference};
use crioxide_registry::{ContentHasher, MAX_MANIFEST};
use crioxide_store::Compression;
use serde::Deserialize;

use super::file::FileBlob;
use super::{Archive, Blob, RawManifest, ReadSourceError, Source, SourceError};
use crate::config::{ImageConfig, MAX_CONFIG};
use crate::layer::{decompress, detect};
use crate::manifest::{DOCKER_MANIFEST, Descriptor, or_default, synthesize};

/// One image of a `docker save` file. Its layers are served uncompressed, under their diff ids.
#[derive(Debug)]
pub(crate) struct DockerArchiveSource {
    archive: Archive,
    manifest: RawManifest,
    config: (Digest, Vec<u8>),
    /// Members by diff id.
    layers: HashMap<Digest, String>,
    names: Vec<ImageReference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default, deserialize_with = "or_default")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    layers: Vec<String>,
}

impl DockerArchiveSource {
    /// The image tagged `reference`; without reference the only one there is.
    pub(crate) fn open(
        path: &Path,
        reference: Option<&str>,
        scratch: &Path,
    ) -> Result<Self, ReadSourceError> {
        let archive = Archive::open(path, scratch)?;
        let (saved, names) = choose(&archive, reference)?;
        let config = archive.document(&saved.config, MAX_CONFIG)?;
        let invalid = |reason: String| ReadSourceError::content(path, reason);
        let parsed = ImageConfig::parse(&config).map_err(|source| ReadSourceError::Json {
            path: path.to_owned(),
            name: saved.config.clone(),
            source,
        })?;
        let diff_ids = parsed.diff_ids().map_err(invalid)?;
        if diff_ids.len() != saved.layers.len() {
            let counts = format!(
                "{} layers, but {} diff ids",
                saved.layers.len(),
                diff_ids.len()
            );
            return Err(invalid(counts));
        }
        let mut layers = Vec::new();
        for (digest, member) in diff_ids.iter().zip(&saved.layers) {
            let size = plain_size(&archive, member)?;
            layers.push(Descriptor {
                media_type: String::new(),
                digest: digest.clone(),
                size,
                urls: Vec::new(),
                annotations: Default::default(),
            });
        }
        let digest = ContentHasher::digest_of(Algorithm::Sha256, &config);
        let described = Descriptor {
            media_type: String::new(),
            digest: digest.clone(),
            size: config.len() as u64,
            urls: Vec::new(),
            annotations: Default::default(),
        };
        let bytes = synthesize(&described, &layers);
        let manifest = RawManifest {
            digest: ContentHasher::digest_of(Algorithm::Sha256, &bytes),
            bytes,
            media_type: DOCKER_MANIFEST.to_owned(),
        };
        let layers = diff_ids.into_iter().zip(saved.layers).collect();
        Ok(Self {
            archive,
            manifest,
            config: (digest, config),
            layers,
            names,
        })
    }
}

fn choose(
    archive: &Archive,
    reference: Option<&str>,
) -> Result<(SavedImage, Vec<ImageReference>), ReadSourceError> {
    let bytes = archive.document("manifest.json", MAX_MANIFEST)?;
    let invalid = |reason: String| ReadSourceError::content(archive.path(), reason);
    let mut images: Vec<SavedImage> =
        serde_json::from_slice(&bytes).map_err(|source| ReadSourceError::Json {
            path: archive.path().to_owned(),
            name: "manifest.json".to_owned(),
            source,
        })?;
    let parse = |name: &str| {
        let parsed = ImageReference::parse_docker_style(name).map(ImageReference::with_default_tag);
        parsed.map_err(|e| invalid(e.to_string()))
    };
    let names = |image: &SavedImage| {
        image
            .repo_tags
            .iter()
            .map(|name| parse(name))
            .collect::<Result<Vec<_>, _>>()
    };
    if let Some(reference) = reference {
        let wanted = parse(reference)?;
        for image in images {
            if names(&image)?.contains(&wanted) {
                return Ok((image, vec![wanted]));
            }
        }
        return Err(invalid(format!("no image tagged `{wanted}`")));
    }
    let found = images.len();
    match (images.pop(), found) {
        (Some(image), 1) => {
            let names = names(&image)?;
            Ok((image, names))
        }
        _ => Err(invalid(format!("{found} images in it, name one of them"))),
    }
}

/// The size of a layer's tar, whether or not the archive has it compressed.
fn plain_size(archive: &Archive, member: &str) -> Result<u64, ReadSourceError> {
    let io = |e| ReadSourceError::io(archive.path(), e);
    let mut head = Vec::new();
    archive
        .reader(member)?
        .take(8)
        .read_to_end(&mut head)
        .map_err(io)?;
    if detect(&head) == Compression::None {
        return Ok(archive.size(member).unwrap_or_default());
    }
    let (_, mut plain) = decompress(archive.reader(member)?).map_err(io)?;
    std::io::copy(&mut plain, &mut std::io::sink()).map_err(io)
}

#[async_trait]
impl Source for DockerArchiveSource {
    fn name(&self) -> String {
        format!("docker-archive:{}", self.archive.path().display())
    }

    async fn top_manifest(&self) -> Result<RawManifest, SourceError> {
        Ok(self.manifest.clone())
    }

    async fn manifest(&self, digest: &Digest) -> Result<RawManifest, SourceError> {
        let reason = format!("no manifest `{digest}`");
        Err(ReadSourceError::content(self.archive.path(), reason).into())
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob, SourceError> {
        let path = self.archive.path();
        if descriptor.digest == self.config.0 {
            let bytes = std::io::Cursor::new(self.config.1.clone());
            return Ok(Blob::File(FileBlob::new(path, Box::new(bytes))));
        }
        let missing =
            || ReadSourceError::content(path, format!("no layer `{}`", descriptor.digest));
        let member = self.layers.get(&descriptor.digest).ok_or_else(missing)?;
        let (_, plain) =
            decompress(self.archive.reader(member)?).map_err(|e| ReadSourceError::io(path, e))?;
        Ok(Blob::File(FileBlob::new(path, plain)))
    }

    async fn blob_size(&self, digest: &Digest) -> Result<u64, SourceError> {
        let reason = format!("no size of `{digest}`");
        Err(ReadSourceError::content(self.archive.path(), reason).into())
    }

    fn embedded_names(&self) -> Vec<ImageReference> {
        self.names.clone()
    }
}
