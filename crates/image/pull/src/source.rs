//! Where images come from: a registry, files, or another store.

mod archive;
mod dir;
mod docker_archive;
mod file;
mod oci_layout;
mod registry;
mod storage;

use std::io::Read;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use crioxide_names::{Digest, ImageReference};
use crioxide_registry::{BlobStream, FetchError, Signature, Wanted};

pub(crate) use archive::Archive;
pub(crate) use dir::DirSource;
pub(crate) use docker_archive::DockerArchiveSource;
pub(crate) use file::FileBlob;
pub use file::ReadSourceError;
pub(crate) use oci_layout::OciLayoutSource;
pub(crate) use registry::RegistrySource;
pub(crate) use storage::StorageSource;

use crate::manifest::Descriptor;

/// A manifest as it came.
#[derive(Debug, Clone)]
pub(crate) struct RawManifest {
    pub(crate) bytes: Vec<u8>,
    /// The type its source gives; may be empty.
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
}

/// Why a source did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A registry.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A file.
    #[error(transparent)]
    Read(#[from] ReadSourceError),
}

/// One image, or a list of them, somewhere.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// Transport and place, for messages.
    fn name(&self) -> String;

    /// The manifest that the name leads to.
    async fn top_manifest(&self) -> Result<RawManifest, SourceError>;

    /// A manifest that a list names. Its digest is verified.
    async fn manifest(&self, digest: &Digest) -> Result<RawManifest, SourceError>;

    /// A blob. Its size and digest are for the reader to verify.
    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob, SourceError>;

    /// A part of a blob; `None` where only the whole can be had.
    async fn blob_part(
        &self,
        _descriptor: &Descriptor,
        _part: Range<u64>,
    ) -> Result<Option<Blob>, SourceError> {
        Ok(None)
    }

    /// The tar of a layer, where the source has that and no blob. Its digest is for the reader to verify.
    async fn layer_tar(
        &self,
        _diff_id: &Digest,
    ) -> Result<Option<Box<dyn Read + Send>>, SourceError> {
        Ok(None)
    }

    /// The size of a blob of which only the digest is known.
    async fn blob_size(&self, digest: &Digest) -> Result<u64, SourceError>;

    /// Everything that claims to be a signature of a manifest. Where none are needed, only the configured places are asked.
    async fn signatures(
        &self,
        _manifest: &Digest,
        _wanted: Wanted,
    ) -> Result<Vec<Signature>, SourceError> {
        Ok(Vec::new())
    }

    /// Names that the image brings along.
    fn embedded_names(&self) -> Vec<ImageReference> {
        Vec::new()
    }
}

/// The content of a blob.
#[derive(Debug)]
pub(crate) enum Blob {
    Remote(Box<BlobStream>),
    File(FileBlob),
}

impl Blob {
    /// The next piece, never empty; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        match self {
            Self::Remote(stream) => Ok(stream.next().await?),
            Self::File(file) => Ok(file.next().await?),
        }
    }
}
