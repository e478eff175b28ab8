//! Whether an image may be used, by its name and its signatures.

pub(crate) mod kept;

use std::sync::Arc;

use crioxide_names::{Digest, ImageReference};
use crioxide_registry::{Policy, PolicyError, Signature, Signed, Transport, Wanted};

use crate::copy::CopyError;
use crate::source::Source;

/// The policy for one image.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    policy: Option<Arc<Policy>>,
    transport: Transport,
    /// As policies name it.
    identity: String,
    /// The name it was asked for by.
    reference: Option<ImageReference>,
}

impl Trust {
    /// An image of a registry. Rejects it if its name is enough for that.
    pub(crate) fn in_registry(
        policy: Option<Arc<Policy>>,
        reference: &ImageReference,
    ) -> Result<Self, PolicyError> {
        Self::new(
            policy,
            Transport::Docker,
            reference.to_string(),
            Some(reference.clone()),
        )
    }

    /// An image of another transport.
    pub(crate) fn in_files(
        policy: Option<Arc<Policy>>,
        transport: Transport,
        identity: String,
    ) -> Result<Self, PolicyError> {
        Self::new(policy, transport, identity, None)
    }

    fn new(
        policy: Option<Arc<Policy>>,
        transport: Transport,
        identity: String,
        reference: Option<ImageReference>,
    ) -> Result<Self, PolicyError> {
        if let Some(policy) = &policy {
            policy.check(transport, &identity)?;
        }
        Ok(Self {
            policy,
            transport,
            identity,
            reference,
        })
    }

    /// Whether the image with this manifest may be used. Its signatures, if it has any, are kept with it, because another
    /// policy may ask for them later.
    pub(crate) async fn verify(
        &self,
        source: &dyn Source,
        manifest: &Digest,
    ) -> Result<Vec<Signature>, CopyError> {
        let wanted = match &self.policy {
            None => Wanted::Nothing,
            Some(policy) => policy.check(self.transport, &self.identity)?,
        };
        let signatures = match source.signatures(manifest, wanted).await {
            Ok(signatures) => signatures,
            Err(error) if wanted == Wanted::Nothing => {
                tracing::info!(%manifest, %error, "signatures cannot be had, and are not needed");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let Some(policy) = self.policy.clone().filter(|_| wanted == Wanted::Signatures) else {
            return Ok(signatures);
        };
        let (trust, manifest) = (self.clone(), manifest.clone());
        // Files with keys are read, and much is computed.
        let verifying = tokio::task::spawn_blocking(move || {
            let signed = Signed {
                reference: trust.reference.as_ref(),
                manifest: &manifest,
                signatures: &signatures,
            };
            policy.verify(trust.transport, &trust.identity, signed)?;
            Ok::<_, PolicyError>(signatures)
        });
        let verified = verifying
            .await
            .map_err(|source| CopyError::Lost { source })?;
        Ok(verified?)
    }
}
