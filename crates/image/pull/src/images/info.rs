//! One image as the CRI sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crioxide_names::{Digest, ImageId, ImageReference};
use crioxide_store::{ImageRecord, Store};
use serde::Deserialize;

use super::ImagesError;
use crate::config::ImageConfig;
use crate::manifest::or_default;

/// What is known about an image.
#[derive(Debug, Clone)]
pub struct ImageInfo {
    /// Its id.
    pub id: ImageId,
    /// Names with tags, sorted.
    pub repo_tags: Vec<String>,
    /// Every repository it has a name in, with every digest it is known by, sorted.
    pub repo_digests: Vec<String>,
    /// Digest of its own manifest; absent in damaged records only.
    pub digest: Option<Digest>,
    /// Bytes: its layers uncompressed, manifests and config.
    pub size: u64,
    /// Who its containers run as.
    pub user: ImageUser,
    /// Its configuration.
    pub config: Arc<ImageConfig>,
    /// Annotations of its manifest (OCI images only).
    pub annotations: BTreeMap<String, String>,
    /// Its top layer; empty for an image without layers.
    pub top_layer: String,
}

/// Who containers of an image run as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ImageUser {
    /// The image does not say.
    #[default]
    Unset,
    /// A number.
    Uid(i64),
    /// A name that the image's passwd file resolves.
    Name(String),
}

/// What never changes about an image, as its id is the digest of its config.
#[derive(Debug)]
pub(super) struct Content {
    /// Digest of the manifest that the annotations are from.
    manifest: String,
    layer: String,
    config: Arc<ImageConfig>,
    annotations: BTreeMap<String, String>,
    size: u64,
}

#[derive(Deserialize)]
struct Annotated {
    #[serde(default, deserialize_with = "or_default")]
    annotations: BTreeMap<String, String>,
}

impl Content {
    pub(super) fn load(store: &Store, record: &ImageRecord) -> Result<Self, ImagesError> {
        let damaged = |reason: String| ImagesError::Damaged {
            id: record.id.clone(),
            reason,
        };
        let own = format!("sha256:{}", record.id);
        // Images of the old schema 1 have an id of another origin, but one config all the same.
        let key = record.big_data_names.iter().find(|key| **key == own);
        let key = key.or_else(|| {
            record
                .big_data_names
                .iter()
                .find(|key| Digest::parse(key).is_ok())
        });
        let key = key.ok_or_else(|| damaged("it has no config".to_owned()))?;
        let bytes = store.image_big_data(&record.id, key)?;
        let config = ImageConfig::parse(&bytes).map_err(|e| damaged(format!("its config: {e}")))?;
        let manifest = store.image_big_data(&record.id, "manifest")?;
        let annotated: Annotated =
            serde_json::from_slice(&manifest).map_err(|e| damaged(format!("its manifest: {e}")))?;
        Ok(Self {
            manifest: record.digest.clone(),
            layer: record.layer.clone(),
            config: Arc::new(config),
            annotations: annotated.annotations,
            size: store.image_size(&record.id)?,
        })
    }

    /// Whether the record still means what was loaded; a pull can have brought another manifest for the same config.
    pub(super) fn is_of(&self, record: &ImageRecord) -> bool {
        self.manifest == record.digest && self.layer == record.layer
    }
}

impl ImageInfo {
    pub(super) fn new(record: &ImageRecord, content: &Content) -> Result<Self, ImagesError> {
        let damaged = |reason: String| ImagesError::Damaged {
            id: record.id.clone(),
            reason,
        };
        let (repo_tags, repo_digests) = names(record);
        Ok(Self {
            id: ImageId::parse(&record.id).map_err(|e| damaged(e.to_string()))?,
            repo_tags,
            repo_digests,
            digest: Digest::parse(&record.digest).ok(),
            size: content.size,
            user: ImageUser::parse(&content.config.config.user),
            config: content.config.clone(),
            annotations: content.annotations.clone(),
            top_layer: record.layer.clone(),
        })
    }
}

impl ImageUser {
    /// The part before the colon of a config's `User`.
    #[must_use]
    pub fn parse(user: &str) -> Self {
        let user = user.split(':').next().unwrap_or_default();
        match user.parse::<i64>() {
            _ if user.is_empty() => Self::Unset,
            Ok(uid) => Self::Uid(uid),
            Err(_) => Self::Name(user.to_owned()),
        }
    }
}

/// Tags and digests, sorted.
fn names(record: &ImageRecord) -> (Vec<String>, Vec<String>) {
    let mut tags = BTreeSet::new();
    let mut digests: BTreeSet<String> = BTreeSet::new();
    let mut repositories = BTreeSet::new();
    for name in &record.names {
        let Ok(reference) = ImageReference::parse(name) else {
            continue;
        };
        repositories.insert(reference.repository());
        match reference.digest() {
            Some(_) => digests.insert(name.clone()),
            None => tags.insert(name.clone()),
        };
    }
    if record.names.is_empty() {
        let previous = record
            .names_history
            .first()
            .and_then(|name| ImageReference::parse(name).ok());
        repositories.extend(previous.map(|reference| reference.repository()));
    }
    for repository in &repositories {
        digests.extend(
            record
                .digests()
                .map(|digest| format!("{repository}@{digest}")),
        );
    }
    (tags.into_iter().collect(), digests.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(names: &[&str], history: &[&str]) -> ImageRecord {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        ImageRecord {
            digest: "sha256:1".to_owned(),
            names: owned(names),
            names_history: owned(history),
            big_data_digests: [("manifest-sha256:2".to_owned(), "sha256:2".to_owned())].into(),
            ..ImageRecord::default()
        }
    }

    #[test]
    fn every_repository_gets_every_digest() {
        let (tags, digests) = names(&record(
            &[
                "quay.io/b/x:2",
                "quay.io/b/x:1",
                "docker.io/library/a:latest",
            ],
            &[],
        ));
        assert_eq!(
            tags,
            [
                "docker.io/library/a:latest",
                "quay.io/b/x:1",
                "quay.io/b/x:2"
            ]
        );
        assert_eq!(
            digests,
            [
                "docker.io/library/a@sha256:1",
                "docker.io/library/a@sha256:2",
                "quay.io/b/x@sha256:1",
                "quay.io/b/x@sha256:2"
            ]
        );
    }

    #[test]
    fn a_nameless_image_is_known_by_its_last_name() {
        let (tags, digests) = names(&record(&[], &["quay.io/b/x:2", "quay.io/old:1"]));
        assert!(tags.is_empty());
        assert_eq!(digests, ["quay.io/b/x@sha256:1", "quay.io/b/x@sha256:2"]);
    }

    #[test]
    fn users() {
        assert_eq!(ImageUser::parse(""), ImageUser::Unset);
        assert_eq!(ImageUser::parse(":33"), ImageUser::Unset);
        assert_eq!(ImageUser::parse("1000:33"), ImageUser::Uid(1000));
        assert_eq!(
            ImageUser::parse("www-data"),
            ImageUser::Name("www-data".to_owned())
        );
    }
}
