//! Signatures of images as they are kept: beside an image in a store, or in a file.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// In front of the JSON of a sigstore signature; no message of OpenPGP begins with a zero.
const SIGSTORE_PREFIX: &[u8] = b"\0sigstore-json\n";

/// Something that claims to be a signature of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// A signed message of OpenPGP.
    Simple(Vec<u8>),
    /// An attachment of sigstore.
    Sigstore(SigstoreSignature),
}

/// An attachment of sigstore: what is signed, and the signature among annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigstoreSignature {
    /// Its media type.
    pub media_type: String,
    /// What is signed.
    pub payload: Vec<u8>,
    /// The signature, and what there is to be known about it.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    mime_type: String,
    payload: String,
    annotations: BTreeMap<String, String>,
}

impl Signature {
    /// As it is kept.
    #[must_use]
    pub fn to_blob(&self) -> Vec<u8> {
        match self {
            Self::Simple(bytes) => bytes.clone(),
            Self::Sigstore(signature) => {
                let json = Json {
                    mime_type: signature.media_type.clone(),
                    payload: STANDARD.encode(&signature.payload),
                    annotations: signature.annotations.clone(),
                };
                let json = serde_json::to_vec(&json).unwrap_or_default();
                [SIGSTORE_PREFIX, &json].concat()
            }
        }
    }

    /// Reads what was kept; `None` if it is of a kind that is not known.
    #[must_use]
    pub fn from_blob(blob: &[u8]) -> Option<Self> {
        if let Some(json) = blob.strip_prefix(SIGSTORE_PREFIX) {
            let json: Json = serde_json::from_slice(json).ok()?;
            return Some(Self::Sigstore(SigstoreSignature {
                media_type: json.mime_type,
                payload: STANDARD.decode(json.payload).ok()?,
                annotations: json.annotations,
            }));
        }
        match blob.first() {
            None | Some(0) => None,
            Some(_) => Some(Self::Simple(blob.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        let sigstore = Signature::Sigstore(SigstoreSignature {
            media_type: "a".to_owned(),
            payload: vec![0, 1, 2],
            annotations: [("b".to_owned(), "c".to_owned())].into(),
        });
        assert!(
            sigstore
                .to_blob()
                .starts_with(b"\0sigstore-json\n{\"mimeType\":\"a\"")
        );
        for signature in [sigstore, Signature::Simple(vec![0xa3, 1, 2])] {
            assert_eq!(Signature::from_blob(&signature.to_blob()), Some(signature));
        }
        assert_eq!(Signature::from_blob(b"\0other\n{}"), None);
        assert_eq!(Signature::from_blob(b""), None);
    }
}
