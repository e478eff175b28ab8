//! `oci:` and `oci-archive:`: an OCI image layout, as a directory or as a tar of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use crioxide_names::{Algorithm, Digest, ImageReference};
use crioxide_registry::{ContentHasher, MAX_MANIFEST};

use super::dir::{size_of, verified};
use super::file::{FileBlob, read_document};
use super::{Archive, Blob, RawManifest, ReadSourceError, Source, SourceError};
use crate::manifest::{Descriptor, Instance, Manifest};

/// The annotation that names an image of a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's annotation with the full name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// One image, or a list of them, of a layout.
#[derive(Debug)]
pub(crate) struct OciLayoutSource {
    store: LayoutStore,
    chosen: Instance,
}

#[derive(Debug)]
enum LayoutStore {
    Directory(PathBuf),
    Archive(Archive),
}

impl OciLayoutSource {
    /// The image `reference` of a layout directory; without reference the only one there is.
    pub(crate) fn directory(path: &Path, reference: Option<&str>) -> Result<Self, ReadSourceError> {
        Self::open(LayoutStore::Directory(path.to_owned()), reference)
    }

    /// The same of a tar.
    pub(crate) fn archive(
        path: &Path,
        reference: Option<&str>,
        scratch: &Path,
    ) -> Result<Self, ReadSourceError> {
        Self::open(
            LayoutStore::Archive(Archive::open(path, scratch)?),
            reference,
        )
    }

    fn open(store: LayoutStore, reference: Option<&str>) -> Result<Self, ReadSourceError> {
        let bytes = store.document("index.json")?;
        let digest = ContentHasher::digest_of(Algorithm::Sha256, &bytes);
        let index = Manifest::parse(&bytes, crate::manifest::OCI_INDEX, &digest);
        let invalid = |reason: String| ReadSourceError::content(store.path(), reason);
        let Manifest::List(mut instances) =
            index.map_err(|e| invalid(format!("index.json: {e}")))?
        else {
            return Err(invalid("index.json is not an index".to_owned()));
        };
        if let Some(reference) = reference {
            instances.retain(|i| {
                i.annotations
                    .get(REF_NAME)
                    .is_some_and(|name| name == reference)
            });
        }
        let found = instances.len();
        match (instances.pop(), found) {
            (Some(chosen), 1) => Ok(Self { store, chosen }),
            _ => {
                let named = reference
                    .map(|r| format!(" named `{r}`"))
                    .unwrap_or_default();
                Err(invalid(format!(
                    "{found} images{named} in the layout, exactly one is wanted"
                )))
            }
        }
    }
}

impl LayoutStore {
    fn path(&self) -> &Path {
        match self {
            Self::Directory(path) => path,
            Self::Archive(archive) => archive.path(),
        }
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, ReadSourceError> {
        match self {
            Self::Directory(path) => read_document(&path.join(name), MAX_MANIFEST),
            Self::Archive(archive) => archive.document(name, MAX_MANIFEST),
        }
    }

    fn size(&self, name: &str) -> Result<u64, ReadSourceError> {
        match self {
            Self::Directory(path) => size_of(&path.join(name)),
            Self::Archive(archive) => archive.size(name).ok_or_else(|| {
                ReadSourceError::content(archive.path(), format!("no `{name}` in it"))
            }),
        }
    }

    fn blob(&self, name: &str) -> Result<FileBlob, ReadSourceError> {
        match self {
            Self::Directory(path) => FileBlob::open(&path.join(name)),
            Self::Archive(archive) => archive.blob(name),
        }
    }
}

#[async_trait]
impl Source for OciLayoutSource {
    fn name(&self) -> String {
        let transport = match self.store {
            LayoutStore::Directory(_) => "oci",
            LayoutStore::Archive(_) => "oci-archive",
        };
        format!("{transport}:{}", self.store.path().display())
    }

    async fn top_manifest(&self) -> Result<RawManifest, SourceError> {
        let mut manifest = self.manifest(&self.chosen.digest).await?;
        manifest.media_type.clone_from(&self.chosen.media_type);
        Ok(manifest)
    }

    async fn manifest(&self, digest: &Digest) -> Result<RawManifest, SourceError> {
        let bytes = self.store.document(&blob_name(digest))?;
        Ok(verified(self.store.path(), bytes, digest)?)
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob, SourceError> {
        Ok(Blob::File(self.store.blob(&blob_name(&descriptor.digest))?))
    }

    async fn blob_size(&self, digest: &Digest) -> Result<u64, SourceError> {
        Ok(self.store.size(&blob_name(digest))?)
    }

    fn embedded_names(&self) -> Vec<ImageReference> {
        full_name(&self.chosen.annotations).into_iter().collect()
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// The full name among an image's annotations; a bare tag is none.
fn full_name(annotations: &BTreeMap<String, String>) -> Option<ImageReference> {
    let name = annotations
        .get(CONTAINERD_NAME)
        .or_else(|| annotations.get(REF_NAME))?;
    match ImageReference::parse_or_short(name).ok()? {
        Ok(reference) => Some(reference.with_default_tag()),
        Err(short) if short.tag.is_some() => short.qualify("localhost").ok(),
        Err(_) => None,
    }
}
