//! Manifests of Docker's old schema 1, whose signature is inside the document and not part of what it signs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crioxide_names::{Algorithm, Digest};
use serde::Deserialize;

use crate::content::ContentHasher;

#[derive(Deserialize)]
struct Signed {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    #[serde(default)]
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    protected: String,
}

/// Says how the document goes on where the signatures were put in.
#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Protected {
    format_length: usize,
    format_tail: String,
}

/// What a signed manifest of schema 1 signs: the document without its signatures. `None` if `manifest` is anything
/// else, or its signatures do not say where they were put in.
///
/// The signatures are not checked: they are made by the registry itself, and by keys that nobody knows.
#[must_use]
pub fn signed_payload(manifest: &[u8]) -> Option<Vec<u8>> {
    let signed: Signed = serde_json::from_slice(manifest).ok()?;
    if signed.schema_version != 1 {
        return None;
    }
    let mut formats = signed.signatures.iter().map(|signature| {
        let protected = URL_SAFE_NO_PAD.decode(signature.protected.trim_end_matches('='));
        serde_json::from_slice::<Protected>(&protected.ok()?).ok()
    });
    let first = formats.next()??;
    // All must sign the same document.
    if !formats.all(|format| format.as_ref() == Some(&first)) {
        return None;
    }
    let tail = URL_SAFE_NO_PAD
        .decode(first.format_tail.trim_end_matches('='))
        .ok()?;
    let head = manifest.get(..first.format_length)?;
    Some([head, &tail].concat())
}

/// The digest that a manifest is known by: of its bytes, except that signatures of schema 1 do not count.
#[must_use]
pub fn manifest_digest(algorithm: Algorithm, manifest: &[u8]) -> Digest {
    match signed_payload(manifest) {
        Some(payload) => ContentHasher::digest_of(algorithm, &payload),
        None => ContentHasher::digest_of(algorithm, manifest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(payload: &str, protected: &[(usize, &str)]) -> Vec<u8> {
        let head = &payload[..payload.len() - 2];
        let signatures: Vec<_> = protected
            .iter()
            .map(|(length, tail)| {
                let text = format!(
                    r#"{{"formatLength":{length},"formatTail":"{}","time":"2015-01-01T00:00:00Z"}}"#,
                    URL_SAFE_NO_PAD.encode(tail)
                );
                format!(r#"{{"protected":"{}","signature":"x"}}"#, URL_SAFE_NO_PAD.encode(text))
            })
            .collect();
        format!("{head},\n \"signatures\": [{}]\n}}", signatures.join(",")).into_bytes()
    }

    #[test]
    fn signatures_do_not_count() {
        let payload = "{\n \"schemaVersion\": 1\n}";
        let right = (payload.len() - 2, "\n}");
        let manifest = signed(payload, &[right, right]);
        assert_eq!(signed_payload(&manifest).unwrap(), payload.as_bytes());
        assert_eq!(
            manifest_digest(Algorithm::Sha256, &manifest),
            ContentHasher::digest_of(Algorithm::Sha256, payload.as_bytes())
        );
    }

    #[test]
    fn everything_else_is_what_it_is() {
        let payload = "{\n \"schemaVersion\": 1\n}";
        for other in [
            signed(payload, &[(payload.len() - 2, "\n}"), (3, "\n}")]),
            signed(payload, &[(99_999, "\n}")]),
            payload.as_bytes().to_vec(),
            b"no JSON".to_vec(),
        ] {
            assert_eq!(signed_payload(&other), None);
            assert_eq!(
                manifest_digest(Algorithm::Sha256, &other),
                ContentHasher::digest_of(Algorithm::Sha256, &other)
            );
        }
    }
}
