//! `dir:`: a directory with `manifest.json` and blobs named by the digits of their digests.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use crioxide_names::{Algorithm, Digest};
use crioxide_registry::{MAX_MANIFEST, Signature, Wanted, manifest_digest};

use super::file::{FileBlob, read_document};
use super::{Blob, RawManifest, ReadSourceError, Source, SourceError};
use crate::manifest::Descriptor;

/// An image, or a list of them, in a directory.
#[derive(Debug)]
pub(crate) struct DirSource {
    path: PathBuf,
}

impl DirSource {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }
}

#[async_trait]
impl Source for DirSource {
    fn name(&self) -> String {
        format!("dir:{}", self.path.display())
    }

    async fn top_manifest(&self) -> Result<RawManifest, SourceError> {
        let bytes = read_document(&self.path.join("manifest.json"), MAX_MANIFEST)?;
        let digest = manifest_digest(Algorithm::Sha256, &bytes);
        Ok(RawManifest {
            bytes,
            media_type: String::new(),
            digest,
        })
    }

    async fn manifest(&self, digest: &Digest) -> Result<RawManifest, SourceError> {
        let path = self.path.join(format!("{}.manifest.json", digest.hex()));
        let bytes = read_document(&path, MAX_MANIFEST)?;
        Ok(verified(&path, bytes, digest)?)
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob, SourceError> {
        Ok(Blob::File(FileBlob::open(
            &self.path.join(descriptor.digest.hex()),
        )?))
    }

    async fn signatures(
        &self,
        _manifest: &Digest,
        _wanted: Wanted,
    ) -> Result<Vec<Signature>, SourceError> {
        let mut found = Vec::new();
        while found.len() < MAX_SIGNATURES {
            let path = self.path.join(format!("signature-{}", found.len() + 1));
            if !path.exists() {
                break;
            }
            let blob = read_document(&path, MAX_MANIFEST)?;
            let signature = Signature::from_blob(&blob)
                .ok_or_else(|| ReadSourceError::content(&path, "no signature of a known kind"))?;
            found.push(signature);
        }
        Ok(found)
    }

    async fn blob_size(&self, digest: &Digest) -> Result<u64, SourceError> {
        Ok(size_of(&self.path.join(digest.hex()))?)
    }
}

/// More signatures than this are not looked at.
const MAX_SIGNATURES: usize = 128;

/// The size of a file.
pub(super) fn size_of(path: &Path) -> Result<u64, ReadSourceError> {
    let metadata = path.metadata().map_err(|e| ReadSourceError::io(path, e))?;
    Ok(metadata.len())
}

/// A manifest whose content is what its name says.
pub(super) fn verified(
    path: &Path,
    bytes: Vec<u8>,
    digest: &Digest,
) -> Result<RawManifest, ReadSourceError> {
    let actual = manifest_digest(digest.algorithm(), &bytes);
    if actual != *digest {
        let reason = format!("manifest `{digest}` has digest `{actual}`");
        return Err(ReadSourceError::content(path, reason));
    }
    Ok(RawManifest {
        bytes,
        media_type: String::new(),
        digest: actual,
    })
}
