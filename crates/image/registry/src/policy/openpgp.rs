//! `signedBy`: signatures with OpenPGP ("simple signing").

use std::io::Read as _;

use pgp::composed::{Deserializable, Message, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, Signature as PgpSignature, SignatureType};
use pgp::types::{KeyDetails as _, Tag, Timestamp};

use super::file::SignedBy;
use super::{Signed, any_of, payload};
use crate::signature::Signature;

/// What is signed is not longer (bytes), however it is compressed.
const MAX_CONTENT: u64 = 1 << 20;

/// Whether one of the image's signatures is by one of the keys and says what is wanted.
pub(super) fn verify(wanted: &SignedBy, signed: Signed<'_>) -> Result<(), String> {
    let mut keys = Vec::new();
    for ring in wanted.keys()? {
        keys.extend(parse_keys(&ring)?);
    }
    let simple = signed
        .signatures
        .iter()
        .filter_map(|signature| match signature {
            Signature::Simple(bytes) => Some(bytes),
            Signature::Sigstore(_) => None,
        });
    let verified = simple.map(|bytes| {
        let content = content(bytes, &keys)?;
        payload::check(
            &content,
            payload::SIMPLE,
            signed.manifest,
            &wanted.signed_identity,
            signed.reference,
        )
    });
    any_of(verified, "OpenPGP")
}

fn parse_keys(ring: &[u8]) -> Result<Vec<SignedPublicKey>, String> {
    let flawed = |e: pgp::errors::Error| format!("the keys are not usable: {e}");
    let (keys, _) = SignedPublicKey::from_reader_many(ring).map_err(flawed)?;
    keys.collect::<Result<_, _>>().map_err(flawed)
}

/// What a message says that one of the keys has signed.
fn content(message: &[u8], keys: &[SignedPublicKey]) -> Result<Vec<u8>, String> {
    let flawed = |e: pgp::errors::Error| format!("it is not a signed message: {e}");
    let mut message =
        Message::from_bytes(std::io::Cursor::new(message.to_vec())).map_err(flawed)?;
    if message.is_compressed() {
        message = message.decompress().map_err(flawed)?;
    }
    if !message.is_signed() && !message.is_one_pass_signed() {
        return Err("it is not a signed message".to_owned());
    }
    let mut content = Vec::new();
    (&mut message)
        .take(MAX_CONTENT + 1)
        .read_to_end(&mut content)
        .map_err(|e| format!("it cannot be read: {e}"))?;
    if content.len() as u64 > MAX_CONTENT {
        return Err(format!("its content is longer than {MAX_CONTENT} bytes"));
    }
    let now = u64::from(Timestamp::now().as_secs());
    let mut reason = "it is by none of the keys".to_owned();
    for key in keys {
        match signer(&message, key, now) {
            None => {}
            Some(Ok(())) => return Ok(content),
            Some(Err(problem)) => reason = problem,
        }
    }
    Err(reason)
}

/// Whether the message is signed by the key or one of its subkeys, and what is wrong with it then.
fn signer(message: &Message<'_>, key: &SignedPublicKey, now: u64) -> Option<Result<(), String>> {
    let primary = &key.primary_key;
    let by_primary = message.verify(primary).ok();
    let by_subkey = || {
        key.public_subkeys
            .iter()
            .find_map(|subkey| Some((message.verify(&subkey.key).ok()?, subkey)))
    };
    let (signature, subkey) = match by_primary {
        Some(signature) => (signature, None),
        None => {
            let (signature, subkey) = by_subkey()?;
            (signature, Some(subkey))
        }
    };
    let fine = check_signature(signature, now)
        .and_then(|()| check_primary(key, now))
        .and_then(|()| subkey.map_or(Ok(()), |subkey| check_subkey(primary, subkey, now)));
    Some(fine)
}

fn check_signature(signature: &PgpSignature, now: u64) -> Result<(), String> {
    if signature.typ() != Some(SignatureType::Binary) {
        return Err("it is not a signature of a document".to_owned());
    }
    match signature.hash_alg() {
        Some(
            HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha224
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512,
        ) => {}
        other => return Err(format!("its hash algorithm {other:?} is not safe")),
    }
    let created = signature.created().map_or(0, |time| time.as_secs().into());
    match signature.signature_expiration_time() {
        Some(life) if has_ended(created, life.as_secs(), now) => Err("it has expired".to_owned()),
        _ => Ok(()),
    }
}

/// The key's owner must say that it is theirs, and neither that it is revoked nor that it has expired.
fn check_primary(key: &SignedPublicKey, now: u64) -> Result<(), String> {
    let primary = &key.primary_key;
    let details = &key.details;
    let revoked = details
        .revocation_signatures
        .iter()
        .any(|revocation| revocation.verify_key(primary).is_ok());
    if revoked {
        return Err("its key is revoked".to_owned());
    }
    let of_users = details.users.iter().flat_map(|user| {
        let own = |signature: &&PgpSignature| {
            signature.is_certification()
                && signature
                    .verify_certification(primary, Tag::UserId, &user.id)
                    .is_ok()
        };
        user.signatures.iter().filter(own)
    });
    let direct = details
        .direct_signatures
        .iter()
        .filter(|signature| signature.verify_key(primary).is_ok());
    let newest = of_users.chain(direct).max_by_key(|own| created(own));
    let newest = newest.ok_or("its key is not signed by itself")?;
    check_life(primary.created_at(), newest, now)
}

fn check_subkey(primary: &PublicKey, subkey: &SignedPublicSubKey, now: u64) -> Result<(), String> {
    let valid = |signature: &&PgpSignature| {
        signature
            .verify_subkey_binding(primary, &subkey.key)
            .is_ok()
    };
    let of_kind = |kind: SignatureType| {
        subkey
            .signatures
            .iter()
            .filter(move |signature| signature.typ() == Some(kind))
            .filter(valid)
    };
    if of_kind(SignatureType::SubkeyRevocation).next().is_some() {
        return Err("its subkey is revoked".to_owned());
    }
    let newest = of_kind(SignatureType::SubkeyBinding).max_by_key(|own| created(own));
    let newest = newest.ok_or("its subkey is not bound to the key")?;
    if !newest.key_flags().sign() {
        return Err("its subkey is not for signatures".to_owned());
    }
    check_life(subkey.key.created_at(), newest, now)
}

fn created(signature: &PgpSignature) -> u32 {
    signature.created().map_or(0, Timestamp::as_secs)
}

fn check_life(made: Timestamp, own: &PgpSignature, now: u64) -> Result<(), String> {
    match own.key_expiration_time() {
        Some(life) if has_ended(made.as_secs().into(), life.as_secs(), now) => {
            Err("its key has expired".to_owned())
        }
        _ => Ok(()),
    }
}

/// A life of no seconds has no end.
fn has_ended(start: u64, life: u32, now: u64) -> bool {
    life != 0 && start + u64::from(life) < now
}
