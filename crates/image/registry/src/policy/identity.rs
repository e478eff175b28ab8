//! Which name a signature must be for.

use crioxide_names::ImageReference;
use serde::Deserialize;

/// A `signedIdentity` of a policy.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub(super) enum Identity {
    /// The name with its tag or digest.
    MatchExact {},
    /// The name with its tag; the repository if the image is asked for by digest.
    MatchRepoDigestOrExact {},
    /// The repository.
    MatchRepository {},
    /// This one, whatever the image is called.
    ExactReference { docker_reference: String },
    /// Any of this repository, whatever the image is called.
    ExactRepository { docker_repository: String },
    /// As `matchRepoDigestOrExact`, of the name with another beginning.
    #[serde(rename = "remapIdentity")]
    Remap {
        prefix: String,
        signed_prefix: String,
    },
}

impl Default for Identity {
    fn default() -> Self {
        Self::MatchRepoDigestOrExact {}
    }
}

impl Identity {
    /// Whether the names in it are names.
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::MatchExact {} | Self::MatchRepoDigestOrExact {} | Self::MatchRepository {} => {
                Ok(())
            }
            Self::ExactReference { docker_reference } => {
                let reference = parse(docker_reference)?;
                match is_bare(&reference) {
                    true => Err(format!("`{docker_reference}` has neither tag nor digest")),
                    false => Ok(()),
                }
            }
            Self::ExactRepository { docker_repository } => {
                let reference = parse(docker_repository)?;
                match is_bare(&reference) {
                    true => Ok(()),
                    false => Err(format!("`{docker_repository}` has a tag or digest")),
                }
            }
            Self::Remap {
                prefix,
                signed_prefix,
            } => {
                let flawed = [prefix, signed_prefix].into_iter().find(|text| {
                    text.is_empty() || text.contains(['@', ' ']) || text.ends_with('/')
                });
                match flawed {
                    Some(text) => Err(format!("`{text}` is not the beginning of names")),
                    None => Ok(()),
                }
            }
        }
    }

    /// Whether a signature for the name `signed` is good for an image that was asked for by `reference`.
    pub(super) fn accepts(
        &self,
        reference: Option<&ImageReference>,
        signed: &str,
    ) -> Result<(), String> {
        let signed_name = signed;
        let signed = parse(signed)?;
        let wanted = || reference.ok_or("an image in a file has no name that could be signed");
        let matches = match self {
            Self::MatchExact {} => {
                let wanted = wanted()?;
                !is_bare(&signed) && !is_bare(wanted) && signed == *wanted
            }
            Self::MatchRepoDigestOrExact {} => repo_digest_or_exact(wanted()?, &signed),
            Self::MatchRepository {} => signed.repository() == wanted()?.repository(),
            Self::ExactReference { docker_reference } => {
                !is_bare(&signed) && parse(docker_reference)? == signed
            }
            Self::ExactRepository { docker_repository } => {
                parse(docker_repository)?.repository() == signed.repository()
            }
            Self::Remap {
                prefix,
                signed_prefix,
            } => repo_digest_or_exact(&remapped(wanted()?, prefix, signed_prefix)?, &signed),
        };
        match matches {
            true => Ok(()),
            false => Err(format!("it is for the name `{signed_name}`")),
        }
    }
}

fn parse(text: &str) -> Result<ImageReference, String> {
    ImageReference::parse_docker_style(text).map_err(|e| e.to_string())
}

fn is_bare(reference: &ImageReference) -> bool {
    reference.tag().is_none() && reference.digest().is_none()
}

/// A digest that is asked for is compared with the manifest's elsewhere.
fn repo_digest_or_exact(wanted: &ImageReference, signed: &ImageReference) -> bool {
    if is_bare(signed) {
        return false;
    }
    match (wanted.tag(), wanted.digest()) {
        (Some(_), _) => wanted == signed,
        (None, Some(_)) => wanted.repository() == signed.repository(),
        (None, None) => false,
    }
}

/// The name with `signed_prefix` in the place of `prefix`, if it begins so at a boundary.
fn remapped(
    reference: &ImageReference,
    prefix: &str,
    signed_prefix: &str,
) -> Result<ImageReference, String> {
    let text = reference.to_string();
    let rest = match text.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', ':', '@']) => rest,
        _ => return Ok(reference.clone()),
    };
    parse(&format!("{signed_prefix}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(text: &str) -> Identity {
        let identity: Identity = serde_json::from_str(text).unwrap();
        identity.check().unwrap();
        identity
    }

    fn accepts(text: &str, wanted: &str, signed: &str) -> bool {
        let wanted = ImageReference::parse(wanted).unwrap();
        identity(text).accepts(Some(&wanted), signed).is_ok()
    }

    #[test]
    fn names_are_compared_as_the_policy_says() {
        let digest = format!("@sha256:{}", "1".repeat(64));
        let by_digest = format!("quay.io/a/b{digest}");
        let kind = |kind: &str| format!(r#"{{"type":"{kind}"}}"#);
        let exact = kind("matchExact");
        assert!(accepts(&exact, "quay.io/a/b:1", "quay.io/a/b:1"));
        assert!(!accepts(&exact, "quay.io/a/b:1", "quay.io/a/b:2"));
        assert!(!accepts(&exact, "quay.io/a/b:1", "quay.io/a/b"));
        assert!(!accepts(&exact, &by_digest, "quay.io/a/b:1"));
        let usual = kind("matchRepoDigestOrExact");
        assert!(accepts(&usual, "docker.io/library/b:1", "b:1"));
        assert!(!accepts(&usual, "quay.io/a/b:1", "quay.io/a/b:2"));
        assert!(accepts(&usual, &by_digest, "quay.io/a/b:2"));
        assert!(!accepts(&usual, &by_digest, "quay.io/a/c:2"));
        assert!(!accepts(&usual, &by_digest, "quay.io/a/b"));
        let repository = kind("matchRepository");
        assert!(accepts(&repository, "quay.io/a/b:1", "quay.io/a/b:2"));
        assert!(!accepts(&repository, "quay.io/a/b:1", "quay.io/a/bb:1"));
        let this = r#"{"type":"exactReference","dockerReference":"quay.io/x:1"}"#;
        assert!(accepts(this, "quay.io/a/b:1", "quay.io/x:1"));
        assert!(!accepts(this, "quay.io/a/b:1", "quay.io/a/b:1"));
        let any = r#"{"type":"exactRepository","dockerRepository":"quay.io/x"}"#;
        assert!(accepts(any, "quay.io/a/b:1", "quay.io/x:7"));
        assert!(!accepts(any, "quay.io/a/b:1", "quay.io/y:7"));
        let remap =
            r#"{"type":"remapIdentity","prefix":"mirror.local/quay","signedPrefix":"quay.io"}"#;
        assert!(accepts(remap, "mirror.local/quay/b:1", "quay.io/b:1"));
        assert!(!accepts(
            remap,
            "mirror.local/quay/b:1",
            "mirror.local/quay/b:1"
        ));
        assert!(!accepts(
            remap,
            "mirror.local/quayside/b:1",
            "quay.io/side/b:1"
        ));
        assert!(accepts(remap, "other.local/b:1", "other.local/b:1"));
    }

    #[test]
    fn an_image_without_a_name_needs_one_from_the_policy() {
        assert!(Identity::default().accepts(None, "quay.io/x:1").is_err());
        let this = identity(r#"{"type":"exactReference","dockerReference":"quay.io/x:1"}"#);
        assert!(this.accepts(None, "quay.io/x:1").is_ok());
    }

    #[test]
    fn flawed_identities_are_refused() {
        for text in [
            r#"{"type":"exactReference","dockerReference":"quay.io/x"}"#,
            r#"{"type":"exactRepository","dockerRepository":"quay.io/x:1"}"#,
            r#"{"type":"remapIdentity","prefix":"","signedPrefix":"quay.io"}"#,
        ] {
            let identity: Identity = serde_json::from_str(text).unwrap();
            assert!(identity.check().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Identity>(r#"{"type":"matchExact","x":1}"#).is_err());
    }
}
