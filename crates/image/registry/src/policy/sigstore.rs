//! `sigstoreSigned`: signatures beside the image in its registry, by keys.

mod certificates;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use webpki::{RawPublicKeyEntity, ring};

use self::certificates::Signer;
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

/// Whether one of the image's signatures is by one of the keys or by whom a certificate says, in the log if that is asked for,
/// and says what is wanted.
pub(super) fn verify(wanted: &SigstoreSigned, signed: Signed<'_>) -> Result<(), String> {
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
        check_signer(signature, wanted, &keys, &log_keys)?;
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

/// Whether the payload's signature is by one of those who are wanted.
fn check_signer(
    signature: &SigstoreSignature,
    wanted: &SigstoreSigned,
    keys: &[PublicKey],
    log_keys: &[PublicKey],
) -> Result<(), String> {
    if wanted.fulcio.is_none() && wanted.pki.is_none() {
        let key = signer(signature, keys)?;
        return match log_keys {
            [] => Ok(()),
            _ => check_log(signature, key, log_keys).map(drop),
        };
    }
    let certified = Signer::of(signature)?;
    // A certificate of minutes is proven to have been good when it signed by the log alone.
    let logged = match log_keys {
        [] => None,
        _ => Some(check_log(signature, certified.der(), log_keys)?),
    };
    let key = match (&wanted.fulcio, &wanted.pki) {
        (Some(fulcio), _) => {
            let time = logged.ok_or("fulcio needs a log")?;
            certified.by_fulcio(fulcio, time)?
        }
        (None, Some(pki)) => certified.by_pki(pki)?,
        (None, None) => return Err("no authority is wanted".to_owned()),
    };
    signer(signature, &[key]).map(drop)
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

/// Since when the log has exactly this signature by exactly this key or certificate (seconds since 1970).
fn check_log(
    signature: &SigstoreSignature,
    key_or_certificate: &[u8],
    log_keys: &[PublicKey],
) -> Result<i64, String> {
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
    let entry_key = base64(&entry.spec.signature.public_key.content)?;
    let same = entry.kind == "hashedrekord"
        && hash.algorithm == "sha256"
        && hash.value == payload_hash
        && Some(&entry.spec.signature.content) == signature.annotations.get(SIGNATURE)
        && is_pem_of(&entry_key, key_or_certificate);
    match same {
        true => serde_json::from_str(bundle.payload["integratedTime"].get()).map_err(flawed),
        false => Err("the log's entry is about another signature".to_owned()),
    }
}

/// Whether `pem` is one key or certificate, which is `der`.
fn is_pem_of(pem: &[u8], der: &[u8]) -> bool {
    let keys = SubjectPublicKeyInfoDer::pem_slice_iter(pem).map(|key| key.map(|key| key.to_vec()));
    let certificates = CertificateDer::pem_slice_iter(pem)
        .map(|certificate| certificate.map(|certificate| certificate.to_vec()));
    let found: Result<Vec<_>, _> = keys.chain(certificates).collect();
    found.is_ok_and(|found| found == [der])
}

#[cfg(test)]
mod tests;
