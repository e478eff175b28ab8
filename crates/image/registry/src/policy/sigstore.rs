//! `sigstoreSigned`: signatures beside the image in its registry, by keys.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use webpki::{RawPublicKeyEntity, ring};

use super::file::SigstoreSigned;
use super::{Signed, any_of, payload};
use crate::signature::{Signature, SigstoreSignature};

/// What signatures are called among attachments.
const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation with the signature itself.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The annotation with what the log says about it.
const BUNDLE: &str = "dev.sigstore.cosign/bundle";

/// What keys of sigstore sign with.
static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P384_SHA384,
    ring::RSA_PKCS1_2048_8192_SHA256,
    ring::ED25519,
];

type PublicKey = SubjectPublicKeyInfoDer<'static>;

/// Whether one of the image's signatures is by one of the keys, in the log if that is asked for, and says what is wanted.
pub(super) fn verify(wanted: &SigstoreSigned, signed: Signed<'_>) -> Result<(), String> {
    if wanted.fulcio.is_some() || wanted.pki.is_some() {
        return Err("verification by certificates (fulcio, pki) is not supported yet".to_owned());
    }
    let keys = public_keys(&wanted.keys()?)?;
    let log_keys = public_keys(&wanted.rekor_keys()?)?;
    let sigstore = signed
        .signatures
        .iter()
        .filter_map(|signature| match signature {
            Signature::Sigstore(signature) if signature.media_type == MEDIA_TYPE => Some(signature),
            _ => None,
        });
    let verified = sigstore.map(|signature| {
        let key = signer(signature, &keys)?;
        if !log_keys.is_empty() {
            check_log(signature, key, &log_keys)?;
        }
        payload::check(
            &signature.payload,
            payload::SIGSTORE,
            signed.manifest,
            &wanted.signed_identity,
            signed.reference,
        )
    });
    any_of(verified, "sigstore")
}

fn public_keys(texts: &[Vec<u8>]) -> Result<Vec<PublicKey>, String> {
    let mut keys = Vec::new();
    for text in texts {
        let found = SubjectPublicKeyInfoDer::pem_slice_iter(text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| format!("a public key is not usable: {e}"))?;
        if found.is_empty() {
            return Err("a file with public keys holds none".to_owned());
        }
        keys.extend(found);
    }
    Ok(keys)
}

/// The key that made the signature of the payload.
fn signer<'k>(
    signature: &SigstoreSignature,
    keys: &'k [PublicKey],
) -> Result<&'k PublicKey, String> {
    let made = signature
        .annotations
        .get(SIGNATURE)
        .ok_or("an attachment without a signature")?;
    let made = STANDARD
        .decode(made)
        .map_err(|_| "it is not base64".to_owned())?;
    keys.iter()
        .find(|key| is_by(key, &signature.payload, &made))
        .ok_or_else(|| "it is by none of the keys".to_owned())
}

fn is_by(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let Ok(key) = RawPublicKeyEntity::try_from(key) else {
        return false;
    };
    ALGORITHMS
        .iter()
        .any(|algorithm| key.verify_signature(*algorithm, message, signature).is_ok())
}

/// What the log promises: this entry is in it since then.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Bundle {
    signed_entry_timestamp: String,
    payload: BTreeMap<String, Box<RawValue>>,
}

#[derive(Deserialize)]
struct Entry {
    kind: String,
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    data: EntryData,
    signature: EntrySignature,
}

#[derive(Deserialize)]
struct EntryData {
    hash: Hash,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntrySignature {
    content: String,
    public_key: EntryKey,
}

#[derive(Deserialize)]
struct EntryKey {
    content: String,
}

/// The members of a log entry that its timestamp signs, in the order in which they are signed.
const SIGNED_MEMBERS: [&str; 4] = ["body", "integratedTime", "logID", "logIndex"];

/// Whether the log has exactly this signature.
fn check_log(
    signature: &SigstoreSignature,
    key: &PublicKey,
    log_keys: &[PublicKey],
) -> Result<(), String> {
    let bundle = signature
        .annotations
        .get(BUNDLE)
        .ok_or("the log says nothing about it")?;
    let flawed = |e: serde_json::Error| format!("what the log says makes no sense: {e}");
    let base64 = |text: &str| {
        STANDARD
            .decode(text)
            .map_err(|_| "what the log says is not base64".to_owned())
    };
    let bundle: Bundle = serde_json::from_str(bundle).map_err(flawed)?;
    let mut members = Vec::new();
    for name in SIGNED_MEMBERS {
        let value = bundle.payload.get(name);
        let value = value.ok_or_else(|| format!("the log's entry has no `{name}`"))?;
        members.push(format!("\"{name}\":{}", value.get()));
    }
    let canonical = format!("{{{}}}", members.join(","));
    let promise = base64(&bundle.signed_entry_timestamp)?;
    if !log_keys
        .iter()
        .any(|key| is_by(key, canonical.as_bytes(), &promise))
    {
        return Err("the log's promise is by none of its keys".to_owned());
    }
    let body: String = serde_json::from_str(bundle.payload["body"].get()).map_err(flawed)?;
    let entry: Entry = serde_json::from_slice(&base64(&body)?).map_err(flawed)?;
    let payload_hash: String = Sha256::digest(&signature.payload)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let hash = &entry.spec.data.hash;
    let entry_keys = public_keys(&[base64(&entry.spec.signature.public_key.content)?])?;
    let same = entry.kind == "hashedrekord"
        && hash.algorithm == "sha256"
        && hash.value == payload_hash
        && Some(&entry.spec.signature.content) == signature.annotations.get(SIGNATURE)
        && entry_keys.iter().any(|entry_key| **entry_key == **key);
    match same {
        true => Ok(()),
        false => Err("the log's entry is about another signature".to_owned()),
    }
}

#[cfg(test)]
mod tests;
