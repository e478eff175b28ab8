//! Checking an image that is there already against another policy.

use std::path::Path;

use crioxide_names::{Digest, ImageReference, ParseReferenceError};
use crioxide_registry::{LoadPolicyError, Policy, PolicyError, Signed, Transport};

use super::{Images, ImagesError};
use crate::trust::kept::kept;

/// Why an image may not be used, or why that cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The name is no reference.
    #[error("verify image `{name}`")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: ParseReferenceError,
    },
    /// The policy cannot be loaded.
    #[error(transparent)]
    LoadPolicy(#[from] LoadPolicyError),
    /// The policy forbids it.
    #[error("SignatureValidationFailed: source image rejected")]
    Policy(#[from] PolicyError),
    /// The image cannot be read.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// There is no such image.
    #[error("image `{id}` is not there")]
    Missing {
        /// Its id.
        id: String,
    },
}

impl Images {
    /// Whether the policy in `policy` allows the image `id` of the store to be used by one who asked for `name`.
    pub fn verify(&self, id: &str, name: &str, policy: &Path) -> Result<(), VerifyError> {
        let reference = ImageReference::parse_docker_style(name)
            .map_err(|source| VerifyError::Name {
                name: name.to_owned(),
                source,
            })?
            .with_default_tag()
            .without_tag_if_digested();
        let policy = Policy::load(policy)?;
        let missing = || VerifyError::Missing { id: id.to_owned() };
        let record = self.lookup(id)?.ok_or_else(missing)?;
        let manifest = Digest::parse(&record.digest).map_err(|_| missing())?;
        let signatures = kept(self.store(), &record).map_err(ImagesError::from)?;
        let signed = Signed {
            reference: Some(&reference),
            manifest: &manifest,
            signatures: &signatures,
        };
        Ok(policy.verify(Transport::Docker, &reference.to_string(), signed)?)
    }
}
