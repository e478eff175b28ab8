//! policy.json: which images may be used, by transport and scope.
//!
//! Every requirement of the most specific scope must hold. Accepting and rejecting is decided from the name alone
//! ([`Policy::check`]); requirements about signatures when the manifest's digest is known ([`Policy::verify`]).

mod file;
mod identity;
mod openpgp;
mod payload;
mod scope;
mod sigstore;

use std::path::{Path, PathBuf};

use crioxide_names::{Digest, ImageReference};

pub use scope::Transport;

pub(crate) use scope::registry_scopes;

use crate::signature::Signature;
use file::{RawPolicy, Requirement};

/// A policy file larger than this is not read (bytes).
const MAX_POLICY: u64 = 16 << 20;

/// What may be used.
#[derive(Debug, Clone)]
pub struct Policy {
    origin: PathBuf,
    raw: RawPolicy,
}

/// An image as a policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The name it was asked for by; images in files have none.
    pub reference: Option<&'a ImageReference>,
    /// Digest of its own manifest, not of a list.
    pub manifest: &'a Digest,
    /// Everything that claims to be a signature of it.
    pub signatures: &'a [Signature],
}

/// What a policy wants to see before it allows an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing more.
    Nothing,
    /// Its signatures.
    Signatures,
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
    /// A scope's list of requirements is empty, which would accept and reject everything at once, or a requirement makes
    /// no sense.
    #[error("signature policy `{}`: {reason} in `{scope}`", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// `default`, or transport and scope.
        scope: String,
        /// What is wrong.
        reason: String,
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
    /// The signatures do not do.
    #[error(
        "image {image} is not signed as `{requirement}` of `{}`, scope `{scope}`, wants: {reason}",
        path.display()
    )]
    Signatures {
        /// Transport and reference.
        image: String,
        /// The policy file.
        path: PathBuf,
        /// The scope that decided.
        scope: String,
        /// The kind of requirement.
        requirement: &'static str,
        /// What each signature lacks.
        reason: String,
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
        let all = raw.transports.iter().flat_map(|(transport, scopes)| {
            let scopes = scopes.iter();
            scopes.map(move |(scope, requirements)| (format!("{transport}:{scope}"), requirements))
        });
        for (scope, requirements) in all.chain([("default".to_owned(), &raw.default)]) {
            let checked = match requirements.is_empty() {
                true => Err("no requirements".to_owned()),
                false => requirements.iter().try_for_each(Requirement::check),
            };
            checked.map_err(|reason| LoadPolicyError::Invalid {
                path: path.to_owned(),
                scope,
                reason,
            })?;
        }
        Ok(Self {
            origin: path.to_owned(),
            raw,
        })
    }

    /// Whether the image named `identity` of a transport may be used as far as its name tells: a reference for
    /// [`Transport::Docker`], an absolute path for the others.
    pub fn check(&self, transport: Transport, identity: &str) -> Result<Wanted, PolicyError> {
        let (scope, requirements) = self.requirements(transport, identity);
        let mut wanted = Wanted::Nothing;
        for requirement in requirements {
            match requirement {
                Requirement::InsecureAcceptAnything {} => {}
                Requirement::Reject {} => {
                    return Err(PolicyError::Rejected {
                        image: format!("{}:{identity}", transport.name()),
                        path: self.origin.clone(),
                        scope,
                    });
                }
                _ => wanted = Wanted::Signatures,
            }
        }
        Ok(wanted)
    }

    /// Whether the image may be used, its signatures considered. Reads the files with keys.
    pub fn verify(
        &self,
        transport: Transport,
        identity: &str,
        signed: Signed<'_>,
    ) -> Result<(), PolicyError> {
        self.check(transport, identity)?;
        let (scope, requirements) = self.requirements(transport, identity);
        for requirement in requirements {
            let verified = match requirement {
                Requirement::InsecureAcceptAnything {} => Ok(()),
                Requirement::Reject {} => Err("it is rejected".to_owned()),
                Requirement::SignedBy(wanted) => openpgp::verify(wanted, signed),
                Requirement::SigstoreSigned(wanted) => sigstore::verify(wanted, signed),
                Requirement::SignedBaseLayer { .. } => {
                    Err("this requirement is not supported by anybody".to_owned())
                }
            };
            verified.map_err(|reason| PolicyError::Signatures {
                image: format!("{}:{identity}", transport.name()),
                path: self.origin.clone(),
                scope: scope.clone(),
                requirement: requirement.kind(),
                reason,
            })?;
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

/// Looks for one signature that does. The error says what each lacks.
fn any_of(signatures: impl Iterator<Item = Result<(), String>>, kind: &str) -> Result<(), String> {
    let mut reasons = Vec::new();
    for verified in signatures {
        match verified {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(reason),
        }
    }
    if reasons.is_empty() {
        return Err(format!("there is no {kind} signature"));
    }
    Err(reasons.join("; "))
}

#[cfg(test)]
mod tests;
