//! Why an image could not be copied into the store.

use super::patience::{GivenUp, StallError};
use crate::layer::LayerError;
use crate::manifest::ManifestError;
use crate::source::SourceError;

/// Why an image could not be copied into the store.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source does not give its manifest or config.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The config blob is not what the manifest says, or makes no sense.
    #[error("image config `{digest}`: {reason}")]
    Config {
        /// Digest of the config blob.
        digest: String,
        /// What is wrong.
        reason: String,
    },
    /// The signature policy forbids it.
    #[error("SignatureValidationFailed: source image rejected")]
    Policy(#[from] crioxide_registry::PolicyError),
    /// A layer cannot be had.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store cannot take it.
    #[error("store the image")]
    Store {
        /// Why.
        source: Box<crioxide_store::ImageError>,
    },
    /// Its content cannot be made durable.
    #[error("sync the image to disk")]
    Sync {
        /// Why.
        source: crioxide_store::StagingError,
    },
    /// The store's disk does not answer.
    #[error(transparent)]
    Stalled(#[from] StallError),
    /// The artifact store cannot take it.
    #[error("store the artifact")]
    Artifacts {
        /// Why.
        source: crate::artifacts::ArtifactStoreError,
    },
    /// A task panicked or the program is ending.
    #[error("a task of the pull ended")]
    Lost {
        /// How.
        source: tokio::task::JoinError,
    },
}

impl CopyError {
    /// Whether another source of the same image may do better.
    pub(crate) fn blames_source(&self) -> bool {
        match self {
            Self::Source(_) | Self::Manifest(_) | Self::Config { .. } | Self::Policy(_) => true,
            Self::Layer(error) => error.blames_source(),
            Self::Store { .. }
            | Self::Sync { .. }
            | Self::Stalled(_)
            | Self::Artifacts { .. }
            | Self::Lost { .. } => false,
        }
    }

    /// The registry's failure at the bottom, if it is one.
    pub(crate) fn fetch_error(&self) -> Option<&crioxide_registry::FetchError> {
        match self {
            Self::Source(SourceError::Fetch(error))
            | Self::Layer(LayerError::Fetch {
                source: SourceError::Fetch(error),
                ..
            }) => Some(error),
            _ => None,
        }
    }
}

impl From<GivenUp> for CopyError {
    fn from(reason: GivenUp) -> Self {
        match reason {
            GivenUp::Stalled(stalled) => Self::Stalled(stalled),
            GivenUp::Lost(source) => Self::Lost { source },
        }
    }
}
