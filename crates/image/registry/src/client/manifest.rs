//! Manifests: small JSON documents, always read whole and verified.

use crioxide_names::{Algorithm, Digest};
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use super::request::Target;
use super::respond::read_body;
use super::{FetchError, Repository};
use crate::conf::Manifest;
use crate::schema1::manifest_digest;

/// A manifest larger than this is refused (bytes).
pub const MAX_MANIFEST: u64 = 4 << 20;

/// The kinds of manifest that can be used, best first.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.5, \
    application/vnd.docker.distribution.manifest.v1+json;q=0.4";

/// A verified manifest.
#[derive(Debug, Clone)]
pub struct FetchedManifest {
    /// Exactly as served.
    pub bytes: Vec<u8>,
    /// As the registry declares it, without parameters; empty if it does not.
    pub media_type: String,
    /// The digest asked for, or SHA-256 of the bytes.
    pub digest: Digest,
}

impl Repository {
    /// Fetches a manifest. If asked for by digest, its content has that digest.
    pub async fn manifest(&self, manifest: &Manifest) -> Result<FetchedManifest, FetchError> {
        let what = format!("manifest `{manifest}` of `{}`", self.name());
        let target = Target::Below(format!("{}/manifests/{manifest}", self.path));
        let response = self
            .get(&what, &target, &[(ACCEPT, ACCEPTED.to_owned())])
            .await?;
        let declared = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let media_type = declared
            .and_then(|v| v.split(';').next())
            .unwrap_or_default()
            .trim()
            .to_owned();
        let progress = self.client.settings.progress_timeout;
        let bytes = read_body(&what, &self.host, response, MAX_MANIFEST, progress).await?;
        let algorithm = match manifest {
            Manifest::Digest(digest) => digest.algorithm(),
            Manifest::Tag(_) => Algorithm::Sha256,
        };
        let digest = manifest_digest(algorithm, &bytes);
        if let Manifest::Digest(wanted) = manifest
            && *wanted != digest
        {
            return Err(FetchError::DigestMismatch {
                what,
                actual: digest.to_string(),
            });
        }
        Ok(FetchedManifest {
            bytes,
            media_type,
            digest,
        })
    }
}
