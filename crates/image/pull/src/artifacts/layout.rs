//! The files of the artifact store.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crioxide_files::{
    AtomicOptions, AtomicWriteError, ReadLimitedError, RecordLockError, Sync, atomic_write,
};
use crioxide_names::{Algorithm, Digest};
use crioxide_registry::{ContentHasher, MAX_MANIFEST};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::NAME;

/// The index is not larger (bytes).
const MAX_INDEX: u64 = 16 << 20;

/// The artifact store cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactStoreError {
    /// Its lock cannot be taken.
    #[error(transparent)]
    Lock(#[from] RecordLockError),
    /// A document cannot be read.
    #[error(transparent)]
    Read(#[from] ReadLimitedError),
    /// A document cannot be replaced.
    #[error(transparent)]
    Write(#[from] AtomicWriteError),
    /// A system call failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in it makes no sense.
    #[error("artifact store {}: {reason}", path.display())]
    Flaw {
        /// The store.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A directory with an OCI layout.
#[derive(Debug)]
pub(super) struct Layout {
    directory: PathBuf,
}

/// The document that names the artifacts. What is not understood is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    schema_version: u32,
    /// CRI-O writes `null` for none.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) manifests: Vec<IndexEntry>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// One artifact.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IndexEntry {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(super) annotations: Map<String, Value>,
    #[serde(flatten)]
    pub(super) more: Map<String, Value>,
}

fn null_is_empty<'de, D>(deserializer: D) -> Result<Vec<IndexEntry>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl IndexEntry {
    pub(super) fn name(&self) -> Option<String> {
        Some(self.annotations.get(NAME)?.as_str()?.to_owned())
    }
}

impl Layout {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn exists(&self) -> bool {
        self.directory.join("index.json").exists()
    }

    /// Makes an empty layout where there is none.
    pub(super) fn prepare(&self) -> Result<(), ArtifactStoreError> {
        let blobs = self.directory.join("blobs/sha256");
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&blobs);
        made.map_err(|source| io("make directory", &blobs, source))?;
        let marker = self.directory.join("oci-layout");
        if !marker.exists() {
            write(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        Ok(())
    }

    /// The index; an empty one where there is none.
    pub(super) fn index(&self) -> Result<Index, ArtifactStoreError> {
        let path = self.directory.join("index.json");
        match crioxide_files::read_limited(&path, MAX_INDEX) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|e| self.flaw(format!("index.json: {e}")))
            }
            Err(error) if error.is_not_found() => Ok(Index {
                schema_version: 2,
                manifests: Vec::new(),
                more: Map::new(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn save(&self, index: &Index) -> Result<(), ArtifactStoreError> {
        let bytes = serde_json::to_vec(index).map_err(|e| self.flaw(format!("index.json: {e}")))?;
        write(&self.directory.join("index.json"), &bytes)
    }

    /// A small blob, whole and verified.
    pub(super) fn document(&self, digest: &Digest) -> Result<Vec<u8>, ArtifactStoreError> {
        let bytes = crioxide_files::read_limited(self.blob(digest), MAX_MANIFEST)?;
        let actual = ContentHasher::digest_of(digest.algorithm(), &bytes);
        if actual != *digest {
            return Err(self.flaw(format!("blob `{digest}` has digest `{actual}`")));
        }
        Ok(bytes)
    }

    pub(super) fn has(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.blob(digest)).is_ok_and(|metadata| metadata.len() == size)
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        let algorithm = match digest.algorithm() {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        };
        self.directory
            .join("blobs")
            .join(algorithm)
            .join(digest.hex())
    }

    /// Removes all blobs but those with these digits.
    pub(super) fn remove_blobs_except(&self, used: &[String]) -> Result<(), ArtifactStoreError> {
        for algorithm in ["sha256", "sha512"] {
            let directory = self.directory.join("blobs").join(algorithm);
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(io("list", &directory, error)),
            };
            for entry in entries {
                let path = entry.map_err(|e| io("list", &directory, e))?.path();
                let name = path.file_name().and_then(|name| name.to_str());
                if name.is_some_and(|name| used.iter().any(|digits| digits == name)) {
                    continue;
                }
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(io("remove", &path, error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    pub(super) fn flaw(&self, reason: impl Into<String>) -> ArtifactStoreError {
        ArtifactStoreError::Flaw {
            path: self.directory.clone(),
            reason: reason.into(),
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ArtifactStoreError> {
    let options = AtomicOptions {
        mode: 0o644,
        sync: Sync::Data,
    };
    Ok(atomic_write(path, bytes, options)?)
}

pub(super) fn io(action: &'static str, path: &Path, source: std::io::Error) -> ArtifactStoreError {
    ArtifactStoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_index_of_cri_o_is_read() {
        let recorded = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":null}"#;
        let index: Index = serde_json::from_str(recorded).unwrap();
        assert!(index.manifests.is_empty());
    }
}
