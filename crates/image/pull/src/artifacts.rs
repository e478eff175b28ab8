//! OCI artifacts: what is in registries without being a container image, kept where CRI-O keeps it, as an OCI layout in
//! `<root>/artifacts`.
//!
//! Blobs are moved in before the index names them, and leave after it has forgotten them. The index is changed under a
//! lock that other programs take as well.

mod fetch;
mod files;
mod layout;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crioxide_files::{LockAccess, RecordLock};
use crioxide_names::{Digest, ImageReference};
use serde_json::Value;

pub use files::ArtifactFile;
pub use layout::ArtifactStoreError;

use crate::manifest::or_default;
use layout::{Index, IndexEntry, Layout};

/// The annotation with an artifact's name.
const NAME: &str = "org.opencontainers.image.ref.name";

/// The artifacts of a node.
#[derive(Debug, Clone)]
pub struct Artifacts {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    layout: Layout,
    lock: RecordLock,
    /// Digits of blobs that are being pulled, and by how many: no removal takes them.
    wanted: Mutex<HashMap<String, usize>>,
    /// Stores that are only read (`additional_artifact_stores`). What they have comes before what is in our own.
    additional: Vec<Layout>,
}

/// What is known about an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactInfo {
    /// The digits of its manifest's digest.
    pub id: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// The name it was pulled by; none if the index does not say.
    pub name: Option<ImageReference>,
    /// Bytes: all its files.
    pub size: u64,
    /// Annotations of its manifest.
    pub annotations: BTreeMap<String, String>,
    /// The store it is in, where that is not the node's own: nothing is removed from there.
    pub additional_store: Option<PathBuf>,
}

/// A manifest as far as it matters here.
#[derive(Debug, serde::Deserialize)]
struct ArtifactManifest {
    config: Option<Content>,
    #[serde(default, deserialize_with = "or_default")]
    layers: Vec<Content>,
    #[serde(default, deserialize_with = "or_default")]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, serde::Deserialize)]
struct Content {
    digest: String,
    size: u64,
    #[serde(default, deserialize_with = "or_default")]
    urls: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    annotations: BTreeMap<String, String>,
}

impl Artifacts {
    /// The artifacts below the root of a store, and those of further roots, which are only read; nothing is made until
    /// there are some.
    #[must_use]
    pub fn new(root: &Path, additional: &[PathBuf]) -> Self {
        let directory = root.join("artifacts");
        let lock = RecordLock::new(directory.join("index.lock"), LockAccess::ReadWrite);
        Self {
            shared: Arc::new(Shared {
                layout: Layout::new(directory),
                lock,
                wanted: Mutex::default(),
                additional: additional
                    .iter()
                    .map(|root| Layout::new(root.join("artifacts")))
                    .collect(),
            }),
        }
    }

    /// All artifacts, those of additional stores first; each name once. One that is damaged is left out and logged, as
    /// is an additional store that cannot be read.
    pub fn list(&self) -> Result<Vec<ArtifactInfo>, ArtifactStoreError> {
        let mut infos = self.list_additional();
        for info in self.list_own()? {
            let known = info.name.is_some() && infos.iter().any(|other| other.name == info.name);
            if !known {
                infos.push(info);
            }
        }
        Ok(infos)
    }

    fn list_own(&self) -> Result<Vec<ArtifactInfo>, ArtifactStoreError> {
        let Shared { layout, lock, .. } = &*self.shared;
        if !layout.exists() {
            return Ok(Vec::new());
        }
        let _locked = lock.read()?;
        Ok(describe_all(layout, &layout.index()?))
    }

    /// What additional stores have. They may lie on media that fail, which must not take our own artifacts away.
    fn list_additional(&self) -> Vec<ArtifactInfo> {
        let mut infos: Vec<ArtifactInfo> = Vec::new();
        for layout in &self.shared.additional {
            if !layout.exists() {
                continue;
            }
            let index = match layout.index() {
                Ok(index) => index,
                Err(error) => {
                    tracing::warn!(
                        store = %layout.directory().display(),
                        error = crate::error::chain(&error),
                        "additional artifact store cannot be read"
                    );
                    continue;
                }
            };
            for mut info in describe_all(layout, &index) {
                info.additional_store = Some(layout.directory().to_owned());
                let known =
                    info.name.is_some() && infos.iter().any(|other| other.name == info.name);
                if !known {
                    infos.push(info);
                }
            }
        }
        infos
    }

    /// The artifact with that name, digest, or at least 3 digits of its id.
    pub fn status(
        &self,
        text: &str,
        candidates: &[ImageReference],
    ) -> Result<Option<ArtifactInfo>, ArtifactStoreError> {
        let artifacts = self.list()?;
        Ok(artifacts
            .into_iter()
            .find(|artifact| artifact.is_called(text, candidates)))
    }

    /// Removes what [`Artifacts::status`] finds in our own store, and all blobs that no other artifact has; says whether
    /// there was something.
    pub fn remove(
        &self,
        text: &str,
        candidates: &[ImageReference],
    ) -> Result<bool, ArtifactStoreError> {
        let Shared { layout, lock, .. } = &*self.shared;
        let mut own = self.list_own()?.into_iter();
        let Some(found) = own.find(|artifact| artifact.is_called(text, candidates)) else {
            return Ok(false);
        };
        let locked = lock.write()?;
        let mut index = layout.index()?;
        let by_id = text == found.digest.as_str() || is_id(text) && found.id.starts_with(text);
        index.manifests.retain(|entry| {
            let same = entry.digest == found.digest.as_str();
            !(same && (by_id || entry.name() == found.name.as_ref().map(ToString::to_string)))
        });
        layout.save(&index)?;
        locked.touch()?;
        let mut used = self.used_blobs(&index);
        let wanted = self.shared.wanted.lock();
        used.extend(
            wanted
                .unwrap_or_else(PoisonError::into_inner)
                .keys()
                .cloned(),
        );
        layout.remove_blobs_except(&used)?;
        Ok(true)
    }

    /// Digits of the digests of all blobs that the index leads to. A manifest that cannot be read leads nowhere.
    fn used_blobs(&self, index: &Index) -> Vec<String> {
        let mut used = Vec::new();
        for entry in &index.manifests {
            let Ok(digest) = Digest::parse(&entry.digest) else {
                continue;
            };
            used.push(digest.hex().to_owned());
            if let Ok(manifest) = manifest(&self.shared.layout, &digest) {
                let contents = manifest.layers.iter().chain(&manifest.config);
                used.extend(contents.filter_map(|content| {
                    Some(Digest::parse(&content.digest).ok()?.hex().to_owned())
                }));
            }
        }
        used
    }

    /// Makes the index say that `name` is the artifact with this manifest, whose blobs are all there.
    fn record(
        &self,
        name: &ImageReference,
        digest: &Digest,
        media_type: &str,
        size: u64,
    ) -> Result<(), ArtifactStoreError> {
        let Shared { layout, lock, .. } = &*self.shared;
        let locked = lock.write()?;
        let mut index = layout.index()?;
        let name = name.to_string();
        index
            .manifests
            .retain(|entry| entry.name().as_deref() != Some(name.as_str()));
        index.manifests.push(IndexEntry {
            media_type: media_type.to_owned(),
            digest: digest.to_string(),
            size,
            annotations: [(NAME.to_owned(), Value::from(name))].into_iter().collect(),
            more: serde_json::Map::new(),
        });
        layout.save(&index)?;
        locked.touch()?;
        Ok(())
    }
}

/// The artifacts that an index names, but for damaged ones.
fn describe_all(layout: &Layout, index: &Index) -> Vec<ArtifactInfo> {
    let mut infos = Vec::new();
    for entry in &index.manifests {
        match describe(layout, entry) {
            Ok(info) => infos.push(info),
            Err(error) => tracing::warn!(
                artifact = entry.digest,
                error = crate::error::chain(&error),
                "artifact is damaged"
            ),
        }
    }
    infos
}

fn describe(layout: &Layout, entry: &IndexEntry) -> Result<ArtifactInfo, ArtifactStoreError> {
    let digest = Digest::parse(&entry.digest)
        .map_err(|e| layout.flaw(format!("digest of an artifact: {e}")))?;
    let manifest = manifest(layout, &digest)?;
    // Some tools write a tag alone, which is no name of anything.
    let name = entry.name().filter(|name| name.contains('/'));
    Ok(ArtifactInfo {
        id: digest.hex().to_owned(),
        digest,
        name: name.and_then(|name| ImageReference::parse_docker_style(&name).ok()),
        size: manifest
            .layers
            .iter()
            .fold(0, |sum, layer| layer.size.saturating_add(sum)),
        annotations: manifest.annotations,
        additional_store: None,
    })
}

fn manifest(layout: &Layout, digest: &Digest) -> Result<ArtifactManifest, ArtifactStoreError> {
    let bytes = layout.document(digest)?;
    serde_json::from_slice(&bytes).map_err(|e| layout.flaw(format!("manifest `{digest}`: {e}")))
}

impl ArtifactInfo {
    /// Whether `text`, which may stand for the full names `candidates`, means this artifact.
    fn is_called(&self, text: &str, candidates: &[ImageReference]) -> bool {
        if text == self.digest.as_str() || is_id(text) && self.id.starts_with(text) {
            return true;
        }
        let Some(name) = &self.name else { return false };
        candidates.iter().any(|candidate| match candidate.digest() {
            Some(digest) => *digest == self.digest && candidate.repository() == name.repository(),
            None => candidate == name,
        })
    }
}

fn is_id(text: &str) -> bool {
    (3..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
