//! Why a pull or load failed.

use std::fmt;

use crioxide_registry::{
    CandidatesError, FetchError, LoadPolicyError, LoadRegistriesConfError, PolicyError,
    ResolveError,
};

use crate::copy::CopyError;
use crate::source::ReadSourceError;

/// Why a pull or load failed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The name has a transport that images cannot be pulled from.
    #[error("pull `{reference}`: transport `{transport}` is not supported here")]
    Transport {
        /// As asked for.
        reference: String,
        /// What is in front of it.
        transport: String,
    },
    /// The name stands for nothing.
    #[error(transparent)]
    Candidates(#[from] CandidatesError),
    /// The registries configuration forbids it.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The registries configuration cannot be loaded.
    #[error(transparent)]
    RegistriesConf(#[from] LoadRegistriesConfError),
    /// The signature policy cannot be loaded.
    #[error(transparent)]
    LoadPolicy(#[from] LoadPolicyError),
    /// It cannot be known where signatures are kept.
    #[error(transparent)]
    SignaturePlaces(#[from] crioxide_registry::LoadSignaturePlacesError),
    /// The signature policy forbids it.
    #[error("SignatureValidationFailed: source image rejected")]
    Policy(#[from] PolicyError),
    /// An endpoint cannot be used at all (auth file, certificates).
    #[error("pull `{reference}`")]
    Endpoint {
        /// The image.
        reference: String,
        /// Why.
        source: FetchError,
    },
    /// Nobody listens at the registry. Kubelet knows the first word.
    #[error("RegistryUnavailable: pull `{reference}`{mirrors}")]
    RegistryUnavailable {
        /// The image.
        reference: String,
        /// What its mirrors said.
        mirrors: MirrorFailures,
        /// Why.
        source: Box<CopyError>,
    },
    /// The image cannot be had.
    #[error("pull `{reference}`{mirrors}")]
    Failed {
        /// The image.
        reference: String,
        /// What its mirrors said.
        mirrors: MirrorFailures,
        /// Why the registry itself did not give it.
        source: Box<CopyError>,
    },
    /// None of the images that a short name may mean can be had.
    #[error("pull `{reference}`: none of its candidates can be pulled: {}", failures.join("; "))]
    AllCandidates {
        /// The short name.
        reference: String,
        /// What became of each.
        failures: Vec<String>,
    },
    /// A file cannot be read as an image.
    #[error("load `{name}`")]
    OpenSource {
        /// Transport and path.
        name: String,
        /// Why.
        source: ReadSourceError,
    },
    /// The image in a file cannot be loaded.
    #[error("load `{name}`")]
    Load {
        /// Transport and path.
        name: String,
        /// Why.
        source: Box<CopyError>,
    },
    /// A name to give it is no reference.
    #[error("load `{name}`: name `{reference}`")]
    Name {
        /// Transport and path.
        name: String,
        /// The name.
        reference: String,
        /// What is wrong with it.
        source: crioxide_names::ParseReferenceError,
    },
    /// The task panicked or the program is ending.
    #[error("pull `{reference}`: its task ended")]
    Lost {
        /// The image.
        reference: String,
    },
}

/// What mirrors said before the registry itself was asked.
#[derive(Debug, Default)]
pub struct MirrorFailures(Vec<String>);

impl MirrorFailures {
    pub(crate) fn push(&mut self, endpoint: &str, error: &dyn std::error::Error) {
        self.0.push(format!("{endpoint}: {}", chain(error)));
    }
}

impl fmt::Display for MirrorFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " (mirrors also failed: {})", self.0.join("; "))
    }
}

impl PullError {
    pub(crate) fn failed(reference: String, mirrors: MirrorFailures, source: CopyError) -> Self {
        let source = Box::new(source);
        if source
            .fetch_error()
            .is_some_and(FetchError::is_registry_unavailable)
        {
            return Self::RegistryUnavailable {
                reference,
                mirrors,
                source,
            };
        }
        Self::Failed {
            reference,
            mirrors,
            source,
        }
    }

    /// The registry's failure at the bottom, if it is one: tells not found from unauthorized from unreachable.
    #[must_use]
    pub fn fetch_error(&self) -> Option<&FetchError> {
        match self {
            Self::Endpoint { source, .. } => Some(source),
            Self::RegistryUnavailable { source, .. } | Self::Failed { source, .. } => {
                source.fetch_error()
            }
            _ => None,
        }
    }

    /// Whether what the name leads to is no container image: an OCI artifact may be meant.
    #[must_use]
    pub fn is_not_an_image(&self) -> bool {
        let Self::Failed { source, .. } = self else {
            return false;
        };
        matches!(
            **source,
            CopyError::Manifest(crate::manifest::ManifestError::NotAnImage { .. })
        )
    }
}

/// An error with everything below it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
