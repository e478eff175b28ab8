//! One wish for an image.

use std::path::PathBuf;
use std::sync::Arc;

use crioxide_registry::Credentials;

use crate::error::PullError;
use crate::progress::Progress;

/// Transports that can be in front of a name, other than that of registries.
const OTHER_TRANSPORTS: &[&str] = &[
    "oci",
    "oci-archive",
    "docker-archive",
    "docker-daemon",
    "dir",
    "containers-storage",
    "ostree",
    "sif",
    "tarball",
    "atomic",
];

/// One wish for an image.
#[derive(Debug, Clone, Default)]
pub struct PullRequest {
    /// A full or short name, with or without `docker://` in front.
    pub reference: String,
    /// Credentials for the registry that the name says; they win over auth files and are not shown to mirrors.
    pub credentials: Option<Credentials>,
    /// An auth file that is asked before the configured ones.
    pub auth_file: Option<PathBuf>,
    /// A policy.json in place of the configured one.
    pub policy: Option<PathBuf>,
    /// Hears how it goes.
    pub progress: Option<Arc<dyn Progress>>,
}

impl PullRequest {
    /// A wish for `reference` and nothing special.
    pub fn new(reference: impl Into<String>) -> Self {
        Self {
            reference: reference.into(),
            ..Self::default()
        }
    }

    /// The name without its transport.
    pub(super) fn name(&self) -> Result<&str, PullError> {
        if let Some(name) = self.reference.strip_prefix("docker://") {
            return Ok(name);
        }
        match self.reference.split_once(':') {
            Some((transport, rest))
                if OTHER_TRANSPORTS.contains(&transport) && rest.starts_with('/') =>
            {
                Err(PullError::Transport {
                    reference: self.reference.clone(),
                    transport: transport.to_owned(),
                })
            }
            _ => Ok(&self.reference),
        }
    }
}
