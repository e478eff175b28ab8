//! Signatures of a repository's images: in a lookaside, by the registry's extension, or as attachments.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crioxide_names::Digest;
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::request::{Target, host_of};
use super::respond::read_body;
use super::{FetchError, Repository, respond};
use crate::conf::Manifest;
use crate::content::ContentHasher;
use crate::lookaside::SignaturePlace;
use crate::signature::{Signature, SigstoreSignature};

/// A signature is not larger (bytes).
const MAX_SIGNATURE: u64 = 4 << 20;
/// More signatures of one image are not looked at.
const MAX_SIGNATURES: usize = 128;
/// By this header a registry says that it keeps signatures itself.
const KEEPS_SIGNATURES: &str = "x-registry-supports-signatures";

#[derive(Deserialize)]
struct Kept {
    #[serde(default)]
    signatures: Vec<KeptSignature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptSignature {
    schema_version: u32,
    #[serde(rename = "type")]
    kind: String,
    content: String,
}

#[derive(Deserialize)]
struct Attachments {
    #[serde(default)]
    layers: Vec<Attachment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attachment {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Repository {
    /// Everything that claims to be a signature of a manifest, from the places where there may be some.
    pub async fn signatures(
        self: &Arc<Self>,
        manifest: &Digest,
        place: &SignaturePlace,
    ) -> Result<Vec<Signature>, FetchError> {
        let what = format!("signatures of `{}@{manifest}`", self.name());
        let mut found = if self.keeps_signatures(&what).await? {
            self.kept_signatures(&what, manifest).await?
        } else if let Some(base) = &place.lookaside {
            self.lookaside_signatures(&what, manifest, base).await?
        } else {
            Vec::new()
        };
        if place.attachments {
            found.extend(self.attached_signatures(manifest).await?);
        }
        Ok(found)
    }

    async fn keeps_signatures(&self, what: &str) -> Result<bool, FetchError> {
        let response = self.get(what, &Target::Below(String::new()), &[]).await?;
        let header = response.headers().get(KEEPS_SIGNATURES);
        Ok(header.is_some_and(|value| value == "1"))
    }

    async fn kept_signatures(
        &self,
        what: &str,
        manifest: &Digest,
    ) -> Result<Vec<Signature>, FetchError> {
        // The extension is beside the directory of the protocol itself.
        let path = format!("../extensions/v2/{}/signatures/{manifest}", self.path);
        let response = self.get(what, &Target::Below(path), &[]).await?;
        let progress = self.client.settings.progress_timeout;
        let body = read_body(what, &self.host, response, MAX_SIGNATURE, progress).await?;
        let kept: Kept =
            serde_json::from_slice(&body).map_err(|e| self.signature_flaw(what, e.to_string()))?;
        let simple = kept
            .signatures
            .into_iter()
            .take(MAX_SIGNATURES)
            .filter(|signature| signature.schema_version == 2 && signature.kind == "atomic");
        simple
            .map(|signature| {
                let bytes = STANDARD.decode(signature.content);
                let bytes = bytes.map_err(|e| self.signature_flaw(what, e.to_string()))?;
                Ok(Signature::Simple(bytes))
            })
            .collect()
    }

    /// Files that are numbered from 1, until one is missing.
    async fn lookaside_signatures(
        &self,
        what: &str,
        manifest: &Digest,
        base: &str,
    ) -> Result<Vec<Signature>, FetchError> {
        let mut found = Vec::new();
        while found.len() < MAX_SIGNATURES {
            let address = format!(
                "{}/{}@{}={}/signature-{}",
                base.trim_end_matches('/'),
                self.path,
                manifest.algorithm().name(),
                manifest.hex(),
                found.len() + 1
            );
            let url = Url::parse(&address)
                .map_err(|e| self.signature_flaw(what, format!("lookaside `{base}`: {e}")))?;
            let bytes = match url.scheme() {
                "file" => self.read_signature(what, Path::new(url.path())).await?,
                "http" | "https" => self.fetch_signature(what, &url).await?,
                scheme => {
                    let reason = format!("lookaside `{base}`: scheme `{scheme}` is not supported");
                    return Err(self.signature_flaw(what, reason));
                }
            };
            let Some(bytes) = bytes else { break };
            let signature = Signature::from_blob(&bytes)
                .ok_or_else(|| self.signature_flaw(what, format!("`{url}` is no signature")))?;
            found.push(signature);
        }
        Ok(found)
    }

    async fn read_signature(&self, what: &str, path: &Path) -> Result<Option<Vec<u8>>, FetchError> {
        use tokio::io::AsyncReadExt as _;
        let failed = |e| self.signature_flaw(what, format!("read `{}`: {e}", path.display()));
        let file = match tokio::fs::File::open(path).await {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let mut bytes = Vec::new();
        let mut limited = file.take(MAX_SIGNATURE);
        limited.read_to_end(&mut bytes).await.map_err(failed)?;
        Ok(Some(bytes))
    }

    /// The address is the administrator's: plain HTTP is as good as TLS, and nobody is shown credentials.
    async fn fetch_signature(&self, what: &str, url: &Url) -> Result<Option<Vec<u8>>, FetchError> {
        let host = host_of(url);
        let response = self.follow(what, url.clone(), &[], None).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = respond::check(what, &host, response)
            .await
            .map_err(|failure| failure.error)?;
        let progress = self.client.settings.progress_timeout;
        let body = read_body(what, &host, response, MAX_SIGNATURE, progress).await?;
        Ok(Some(body))
    }

    /// Layers of an image whose tag is made of the manifest's digest.
    async fn attached_signatures(
        self: &Arc<Self>,
        manifest: &Digest,
    ) -> Result<Vec<Signature>, FetchError> {
        let tag = format!("{}-{}.sig", manifest.algorithm().name(), manifest.hex());
        let attachments = match self.manifest(&Manifest::Tag(tag)).await {
            Ok(attachments) => attachments,
            Err(FetchError::NotFound { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let what = format!("attached signatures of `{}@{manifest}`", self.name());
        let flaw = |reason: String| self.signature_flaw(&what, reason);
        let Attachments { layers } =
            serde_json::from_slice(&attachments.bytes).map_err(|e| flaw(e.to_string()))?;
        let mut found = Vec::new();
        for layer in layers.into_iter().take(MAX_SIGNATURES) {
            if layer.size > MAX_SIGNATURE {
                return Err(flaw(format!("{} bytes are too many", layer.size)));
            }
            let digest = Digest::parse(&layer.digest).map_err(|e| flaw(e.to_string()))?;
            let mut blob = self.open_blob(&digest, layer.size).await?;
            let mut payload = Vec::new();
            while let Some(piece) = blob.next().await? {
                payload.extend_from_slice(&piece);
            }
            let actual = ContentHasher::digest_of(digest.algorithm(), &payload);
            if actual != digest {
                return Err(flaw(format!("blob `{digest}` has digest `{actual}`")));
            }
            found.push(Signature::Sigstore(SigstoreSignature {
                media_type: layer.media_type,
                payload,
                annotations: layer.annotations.unwrap_or_default(),
            }));
        }
        Ok(found)
    }

    fn signature_flaw(&self, what: &str, reason: String) -> FetchError {
        FetchError::Protocol {
            what: what.to_owned(),
            host: self.host.clone(),
            reason,
        }
    }
}
