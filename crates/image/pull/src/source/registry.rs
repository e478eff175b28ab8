//! A registry as a source.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use crioxide_names::Digest;
use crioxide_registry::{
    Endpoint, FetchError, FetchedManifest, Manifest, Repository, Signature, SignaturePlace, Wanted,
};

use super::{Blob, RawManifest, Source, SourceError};
use crate::manifest::Descriptor;

/// An image at one endpoint.
#[derive(Debug)]
pub(crate) struct RegistrySource {
    repository: Arc<Repository>,
    endpoint: Endpoint,
    signatures: SignaturePlace,
}

impl RegistrySource {
    pub(crate) fn new(
        repository: Repository,
        endpoint: Endpoint,
        signatures: SignaturePlace,
    ) -> Self {
        Self {
            repository: Arc::new(repository),
            endpoint,
            signatures,
        }
    }
}

#[async_trait]
impl Source for RegistrySource {
    fn name(&self) -> String {
        format!("docker://{}", self.endpoint)
    }

    async fn top_manifest(&self) -> Result<RawManifest, SourceError> {
        Ok(self
            .repository
            .manifest(&self.endpoint.manifest)
            .await?
            .into())
    }

    async fn manifest(&self, digest: &Digest) -> Result<RawManifest, SourceError> {
        Ok(self
            .repository
            .manifest(&Manifest::Digest(digest.clone()))
            .await?
            .into())
    }

    async fn blob(&self, descriptor: &Descriptor) -> Result<Blob, SourceError> {
        for url in &descriptor.urls {
            match self
                .repository
                .open_foreign_blob(url, descriptor.size)
                .await
            {
                Ok(stream) => return Ok(Blob::Remote(Box::new(stream))),
                Err(error) => {
                    tracing::info!(digest = %descriptor.digest, %error, "foreign server failed, trying the next");
                }
            }
        }
        let stream = self
            .repository
            .open_blob(&descriptor.digest, descriptor.size)
            .await?;
        Ok(Blob::Remote(Box::new(stream)))
    }

    async fn blob_part(
        &self,
        descriptor: &Descriptor,
        part: Range<u64>,
    ) -> Result<Option<Blob>, SourceError> {
        if !descriptor.urls.is_empty() {
            return Ok(None);
        }
        match self
            .repository
            .open_blob_part(&descriptor.digest, part)
            .await
        {
            Ok(stream) => Ok(Some(Blob::Remote(Box::new(stream)))),
            Err(FetchError::NoRanges { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn signatures(
        &self,
        manifest: &Digest,
        wanted: Wanted,
    ) -> Result<Vec<Signature>, SourceError> {
        if wanted == Wanted::Nothing && self.signatures == SignaturePlace::default() {
            return Ok(Vec::new());
        }
        let found = self.repository.signatures(manifest, &self.signatures);
        Ok(found.await?)
    }

    async fn blob_size(&self, digest: &Digest) -> Result<u64, SourceError> {
        Ok(self.repository.blob_size(digest).await?)
    }
}

impl From<FetchedManifest> for RawManifest {
    fn from(fetched: FetchedManifest) -> Self {
        Self {
            bytes: fetched.bytes,
            media_type: fetched.media_type,
            digest: fetched.digest,
        }
    }
}
