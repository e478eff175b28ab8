//! What a signature says: this manifest may be called so.

use crioxide_names::{Digest, ImageReference};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::identity::Identity;

/// Said by signatures with OpenPGP.
pub(super) const SIMPLE: &str = "atomic container signature";
/// Said by those of sigstore.
pub(super) const SIGSTORE: &str = "cosign container image signature";

/// Unknown keys, and keys that come twice, could mean something to somebody else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    critical: Critical,
    #[expect(dead_code, reason = "it decides nothing")]
    #[serde(default)]
    optional: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
    identity: SignedIdentity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SignedIdentity {
    docker_reference: String,
}

/// Whether a payload whose signature is good says what is wanted.
pub(super) fn check(
    payload: &[u8],
    kind: &str,
    manifest: &Digest,
    identity: &Identity,
    reference: Option<&ImageReference>,
) -> Result<(), String> {
    let Payload { critical, .. } = serde_json::from_slice(payload)
        .map_err(|e| format!("its content is not what it should be: {e}"))?;
    if critical.kind != kind {
        return Err(format!("it is of type `{}`", critical.kind));
    }
    let signed = &critical.image.docker_manifest_digest;
    if signed != manifest.as_str() {
        return Err(format!(
            "it is for the manifest `{signed}`, not `{manifest}`"
        ));
    }
    identity.accepts(reference, &critical.identity.docker_reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_understood_whole_is_accepted() {
        let digest = Digest::parse(&format!("sha256:{}", "1".repeat(64))).unwrap();
        let reference = ImageReference::parse("quay.io/a/b:1").unwrap();
        let good = format!(
            r#"{{"critical":{{"type":"{SIMPLE}","image":{{"docker-manifest-digest":"{digest}"}},"identity":{{"docker-reference":"quay.io/a/b:1"}}}},"optional":{{"creator":"x"}}}}"#
        );
        let verdict = |text: &str| {
            check(
                text.as_bytes(),
                SIMPLE,
                &digest,
                &Identity::default(),
                Some(&reference),
            )
        };
        verdict(&good).unwrap();
        for (from, to) in [
            (SIMPLE, SIGSTORE),
            (digest.as_str(), "sha256:2"),
            ("a/b:1", "a/c:1"),
            (r#""critical":{"#, r#""critical":{"more":1,"#),
            (r#""critical":{"#, r#""more":1,"critical":{"#),
            (r#""image":{"#, r#""image":{"docker-manifest-digest":"x","#),
        ] {
            assert!(verdict(&good.replace(from, to)).is_err(), "{from}");
        }
    }
}
