//! From a full reference to the places to ask, mirrors first.

use std::fmt;

use crioxide_names::{Digest, ImageReference};

use super::RegistriesConf;
use super::prefix;
use super::registry::{MirrorUse, Registry};

/// One place that may have an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host with optional port, as in the reference (`docker.io` is not yet its API host).
    pub host: String,
    /// Repository at that host.
    pub repository: String,
    /// Which manifest to ask for.
    pub manifest: Manifest,
    /// Plain HTTP and unverified TLS are allowed.
    pub insecure: bool,
    /// Mirror or the registry itself.
    pub kind: EndpointKind,
}

/// The places that may have an image, in the order to ask them: mirrors, then the registry itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// May all fail without harm.
    pub mirrors: Vec<Endpoint>,
    /// Has the last word.
    pub primary: Endpoint,
}

/// Whether an endpoint is a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointKind {
    /// A configured mirror: its failure is not final.
    Mirror,
    /// The registry that the reference names, after prefix rewrite.
    Primary,
}

/// Names one manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Manifest {
    /// Whatever the tag points to now.
    Tag(String),
    /// Exactly this one.
    Digest(Digest),
}

/// Why a reference has no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Its registry is blocked.
    #[error("resolve `{reference}`: registry `{prefix}` is blocked by registries.conf")]
    Blocked {
        /// The reference.
        reference: String,
        /// The prefix of the `[[registry]]` table.
        prefix: String,
    },
    /// The rewritten text is not a reference.
    #[error(
        "resolve `{reference}`: location `{location}` of registry `{prefix}` does not make a reference"
    )]
    Rewrite {
        /// The reference.
        reference: String,
        /// The prefix of the `[[registry]]` table.
        prefix: String,
        /// The location put in its place.
        location: String,
        /// What is wrong with the result.
        source: crioxide_names::ParseReferenceError,
    },
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = match self.manifest {
            Manifest::Tag(_) => ':',
            Manifest::Digest(_) => '@',
        };
        write!(
            f,
            "{}/{}{separator}{}",
            self.host, self.repository, self.manifest
        )
    }
}

impl RegistriesConf {
    /// The endpoints for `reference`.
    pub fn resolve(&self, reference: &ImageReference) -> Result<Endpoints, ResolveError> {
        let Some(registry) = self.find(&reference.to_string()) else {
            let primary = endpoint(reference, Security::Verified, EndpointKind::Primary);
            return Ok(Endpoints {
                mirrors: Vec::new(),
                primary,
            });
        };
        if registry.blocked {
            return Err(ResolveError::Blocked {
                reference: reference.to_string(),
                prefix: registry.prefix.clone(),
            });
        }
        let mut mirrors = Vec::new();
        for mirror in &registry.mirrors {
            let wanted = match mirror.serves {
                MirrorUse::All => true,
                MirrorUse::DigestOnly => reference.digest().is_some(),
                MirrorUse::TagOnly => reference.digest().is_none(),
            };
            if wanted {
                let rewritten = rewrite(reference, registry, &mirror.location)?;
                mirrors.push(endpoint(
                    &rewritten,
                    Security::of(mirror.insecure),
                    EndpointKind::Mirror,
                ));
            }
        }
        let rewritten = rewrite(reference, registry, &registry.location)?;
        let primary = endpoint(
            &rewritten,
            Security::of(registry.insecure),
            EndpointKind::Primary,
        );
        Ok(Endpoints { mirrors, primary })
    }

    /// The table with the longest match.
    fn find(&self, reference: &str) -> Option<&Registry> {
        self.registries
            .iter()
            .filter_map(|registry| Some((registry.matched_len(reference)?, registry)))
            .max_by_key(|(len, registry)| (*len, registry.prefix.len()))
            .map(|(_, registry)| registry)
    }
}

#[derive(Clone, Copy)]
enum Security {
    Verified,
    Insecure,
}

impl Security {
    fn of(insecure: bool) -> Self {
        if insecure {
            Self::Insecure
        } else {
            Self::Verified
        }
    }
}

fn rewrite(
    reference: &ImageReference,
    registry: &Registry,
    location: &str,
) -> Result<ImageReference, ResolveError> {
    let text = reference.to_string();
    let covered = prefix::matched_len(&text, &registry.prefix).unwrap_or(0);
    if location.is_empty() || covered == 0 {
        return Ok(reference.clone());
    }
    let rewritten = format!("{location}{}", &text[covered..]);
    ImageReference::parse(&rewritten).map_err(|source| ResolveError::Rewrite {
        reference: text.clone(),
        prefix: registry.prefix.clone(),
        location: location.to_owned(),
        source,
    })
}

fn endpoint(reference: &ImageReference, security: Security, kind: EndpointKind) -> Endpoint {
    let manifest = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => Manifest::Digest(digest.clone()),
        (None, Some(tag)) => Manifest::Tag(tag.to_owned()),
        (None, None) => Manifest::Tag("latest".to_owned()),
    };
    Endpoint {
        host: reference.domain().to_owned(),
        repository: reference.path().to_owned(),
        manifest,
        insecure: matches!(security, Security::Insecure),
        kind,
    }
}
