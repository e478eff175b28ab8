//! policy.json: which images may be used, by transport and scope.
//!
//! Every requirement of the most specific scope must hold. Accepting and rejecting are decided here; requirements
//! about signatures are understood and refused with the file and scope that ask for them.

mod file;
mod scope;

use std::path::{Path, PathBuf};

pub use scope::Transport;

use file::{RawPolicy, Requirement};

/// A policy file larger than this is not read (bytes).
const MAX_POLICY: u64 = 16 << 20;

/// What may be used.
#[derive(Debug, Clone)]
pub struct Policy {
    origin: PathBuf,
    raw: RawPolicy,
}

/// Why a policy file could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadPolicyError {
    /// It cannot be read.
    #[error("read signature policy `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It is not a policy.
    #[error("parse signature policy `{}`", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A scope's list of requirements is empty, which would accept and reject everything at once.
    #[error("signature policy `{}`: no requirements in `{scope}`", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// `default`, or transport and scope.
        scope: String,
    },
}

/// Why an image may not be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The policy rejects it.
    #[error("running image {image} is rejected by policy: `{}`, scope `{scope}`", path.display())]
    Rejected {
        /// Transport and reference.
        image: String,
        /// The policy file.
        path: PathBuf,
        /// The scope that decided.
        scope: String,
    },
    /// The policy asks for signatures.
    #[error(
        "image {image} needs a `{requirement}` signature by `{}`, scope `{scope}`: verification is not built yet",
        path.display()
    )]
    NotBuilt {
        /// Transport and reference.
        image: String,
        /// The policy file.
        path: PathBuf,
        /// The scope that decided.
        scope: String,
        /// The kind of requirement.
        requirement: &'static str,
    },
}

impl Policy {
    /// Reads a policy file, which must exist.
    pub fn load(path: &Path) -> Result<Self, LoadPolicyError> {
        use std::io::Read as _;
        let failed = |source| LoadPolicyError::Read {
            path: path.to_owned(),
            source,
        };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_POLICY)
            .read_to_string(&mut text)
            .map_err(failed)?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, LoadPolicyError> {
        let raw: RawPolicy =
            serde_json::from_str(text).map_err(|source| LoadPolicyError::Parse {
                path: path.to_owned(),
                source,
            })?;
        let empty = |scope: String| LoadPolicyError::Empty {
            path: path.to_owned(),
            scope,
        };
        if raw.default.is_empty() {
            return Err(empty("default".to_owned()));
        }
        for (transport, scopes) in &raw.transports {
            if let Some((scope, _)) = scopes
                .iter()
                .find(|(_, requirements)| requirements.is_empty())
            {
                return Err(empty(format!("{transport}:{scope}")));
            }
        }
        Ok(Self {
            origin: path.to_owned(),
            raw,
        })
    }

    /// Whether the image named `identity` of a transport may be used: a reference for [`Transport::Docker`], an
    /// absolute path for the others.
    pub fn check(&self, transport: Transport, identity: &str) -> Result<(), PolicyError> {
        let (scope, requirements) = self.requirements(transport, identity);
        let image = || format!("{}:{identity}", transport.name());
        for requirement in requirements {
            match requirement {
                Requirement::InsecureAcceptAnything {} => {}
                Requirement::Reject {} => {
                    return Err(PolicyError::Rejected {
                        image: image(),
                        path: self.origin.clone(),
                        scope,
                    });
                }
                other => {
                    return Err(PolicyError::NotBuilt {
                        image: image(),
                        path: self.origin.clone(),
                        scope,
                        requirement: other.kind(),
                    });
                }
            }
        }
        Ok(())
    }

    fn requirements(&self, transport: Transport, identity: &str) -> (String, &[Requirement]) {
        if let Some(scopes) = self.raw.transports.get(transport.name()) {
            for scope in transport.scopes(identity) {
                if let Some(requirements) = scopes.get(&scope) {
                    return (format!("{}:{scope}", transport.name()), requirements);
                }
            }
        }
        ("default".to_owned(), &self.raw.default)
    }
}

#[cfg(test)]
mod tests;
