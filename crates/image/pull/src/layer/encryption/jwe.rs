//! JSON Web Encryption (RFC 7516) in its JSON form, with the algorithms that ocicrypt uses (RFC 7518).

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit};
use aes_kw::{KekAes128, KekAes192, KekAes256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::Oaep;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::UnwrapError;
use super::keys::PrivateKeys;

#[derive(Deserialize)]
struct Jwe {
    #[serde(default)]
    protected: String,
    #[serde(default)]
    unprotected: Map<String, Value>,
    /// The only reader, if `recipients` is empty.
    #[serde(flatten)]
    recipient: Recipient,
    #[serde(default)]
    recipients: Vec<Recipient>,
    iv: String,
    ciphertext: String,
    tag: String,
    aad: Option<String>,
}

#[derive(Deserialize)]
struct Recipient {
    #[serde(default)]
    header: Map<String, Value>,
    #[serde(default)]
    encrypted_key: String,
}

/// The content, by the first private key that it was encrypted for.
pub(super) fn unwrap(jwe: &[u8], keys: &PrivateKeys) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
    let mut jwe: Jwe = serde_json::from_slice(jwe).map_err(|_| UnwrapError::Flawed("JSON"))?;
    let mut recipients = std::mem::take(&mut jwe.recipients);
    if recipients.is_empty() {
        let Recipient {
            header,
            encrypted_key,
        } = &mut jwe.recipient;
        recipients.push(Recipient {
            header: std::mem::take(header),
            encrypted_key: std::mem::take(encrypted_key),
        });
    }
    let protected: Map<String, Value> = match jwe.protected.as_str() {
        "" => Map::new(),
        text => serde_json::from_slice(&decode(text)?)
            .map_err(|_| UnwrapError::Flawed("protected header"))?,
    };
    for recipient in recipients.into_iter().take(super::MAX_READERS) {
        let mut header = protected.clone();
        header.extend(jwe.unprotected.clone());
        header.extend(recipient.header);
        let header = Header(header);
        let encrypted = decode(&recipient.encrypted_key)?;
        for key in content_keys(&header, &encrypted, keys)? {
            if let Some(content) = open(&jwe, header.text("enc")?, &key)? {
                return Ok(content);
            }
        }
    }
    Err(UnwrapError::NotForUs)
}

struct Header(Map<String, Value>);

impl Header {
    fn text(&self, name: &'static str) -> Result<&str, UnwrapError> {
        let text = self.0.get(name).and_then(Value::as_str);
        text.ok_or(UnwrapError::Flawed(name))
    }

    /// Bytes that need not be there.
    fn bytes(&self, name: &str) -> Result<Vec<u8>, UnwrapError> {
        match self.0.get(name).and_then(Value::as_str) {
            Some(text) => decode(text),
            None => Ok(Vec::new()),
        }
    }
}

type Keys = Vec<Zeroizing<Vec<u8>>>;

/// What the private keys make of the encrypted key. Only one that fits opens the content.
fn content_keys(
    header: &Header,
    encrypted: &[u8],
    keys: &PrivateKeys,
) -> Result<Keys, UnwrapError> {
    let algorithm = header.text("alg")?;
    let padding: fn() -> Oaep = match algorithm {
        "RSA-OAEP" => Oaep::new::<sha1::Sha1>,
        "RSA-OAEP-256" => Oaep::new::<Sha256>,
        _ => return agreed_keys(header, algorithm, encrypted, keys),
    };
    let opened = keys
        .rsa
        .iter()
        .filter_map(|key| key.decrypt(padding(), encrypted).ok());
    Ok(opened.map(Zeroizing::new).collect())
}

/// ECDH-ES: the sender's key of the moment and the reader's make a secret, which wraps the key.
fn agreed_keys(
    header: &Header,
    algorithm: &str,
    encrypted: &[u8],
    keys: &PrivateKeys,
) -> Result<Keys, UnwrapError> {
    let length = match algorithm {
        "ECDH-ES+A128KW" => 16,
        "ECDH-ES+A192KW" => 24,
        "ECDH-ES+A256KW" => 32,
        _ => return Err(UnwrapError::Flawed("unknown algorithm")),
    };
    let unwrap = |secret: &[u8]| {
        let wrapping = derive(secret, algorithm, length, header).ok()?;
        let opened = match *wrapping {
            ref key if length == 16 => KekAes128::try_from(&key[..]).ok()?.unwrap_vec(encrypted),
            ref key if length == 24 => KekAes192::try_from(&key[..]).ok()?.unwrap_vec(encrypted),
            ref key => KekAes256::try_from(&key[..]).ok()?.unwrap_vec(encrypted),
        };
        opened.ok().map(Zeroizing::new)
    };
    let point = header.0.get("epk").and_then(Value::as_object);
    let point = Header(point.ok_or(UnwrapError::Flawed("epk"))?.clone());
    let uncompressed = [vec![4], point.bytes("x")?, point.bytes("y")?].concat();
    macro_rules! agree {
        ($curve:ident) => {{
            let sender = $curve::PublicKey::from_sec1_bytes(&uncompressed)
                .map_err(|_| UnwrapError::Flawed("epk"))?;
            let secrets = keys.$curve.iter().map(|key| {
                $curve::ecdh::diffie_hellman(key.to_nonzero_scalar(), sender.as_affine())
            });
            secrets
                .filter_map(|secret| unwrap(secret.raw_secret_bytes()))
                .collect()
        }};
    }
    Ok(match point.text("crv")? {
        "P-256" => agree!(p256),
        "P-384" => agree!(p384),
        "P-521" => agree!(p521),
        _ => return Err(UnwrapError::Flawed("unknown curve")),
    })
}

/// The key derivation of RFC 7518, section 4.6.2, for keys of one round.
fn derive(
    secret: &[u8],
    algorithm: &str,
    length: usize,
    header: &Header,
) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
    let mut hasher = Sha256::new();
    hasher.update(1_u32.to_be_bytes());
    hasher.update(secret);
    let (sender, receiver) = (header.bytes("apu")?, header.bytes("apv")?);
    for part in [algorithm.as_bytes(), &sender, &receiver] {
        let length = u32::try_from(part.len()).map_err(|_| UnwrapError::Flawed("length"))?;
        hasher.update(length.to_be_bytes());
        hasher.update(part);
    }
    let bits = u32::try_from(length * 8).map_err(|_| UnwrapError::Flawed("length"))?;
    hasher.update(bits.to_be_bytes());
    Ok(Zeroizing::new(hasher.finalize()[..length].to_vec()))
}

/// Decrypts the content; `None` with the wrong key.
fn open(jwe: &Jwe, cipher: &str, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, UnwrapError> {
    let nonce = decode(&jwe.iv)?;
    if nonce.len() != 12 {
        return Err(UnwrapError::Flawed("iv"));
    }
    let sealed = [decode(&jwe.ciphertext)?, decode(&jwe.tag)?].concat();
    let aad = match &jwe.aad {
        Some(aad) => format!("{}.{aad}", jwe.protected),
        None => jwe.protected.clone(),
    };
    let payload = Payload {
        msg: &sealed,
        aad: aad.as_bytes(),
    };
    let nonce = aes_gcm::Nonce::from_slice(&nonce);
    let opened = match cipher {
        "A128GCM" => Aes128Gcm::new_from_slice(key)
            .ok()
            .map(|key| key.decrypt(nonce, payload)),
        "A256GCM" => Aes256Gcm::new_from_slice(key)
            .ok()
            .map(|key| key.decrypt(nonce, payload)),
        _ => return Err(UnwrapError::Flawed("unknown cipher")),
    };
    Ok(opened.and_then(Result::ok).map(Zeroizing::new))
}

fn decode(text: &str) -> Result<Vec<u8>, UnwrapError> {
    URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| UnwrapError::Flawed("base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7518, appendix C. The direct agreement there names the cipher where the wrapping names itself.
    #[test]
    fn keys_are_derived_as_the_rfc_does() {
        let secret = [
            158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49,
            110, 163, 218, 128, 106, 72, 246, 218, 167, 121, 140, 254, 144, 196,
        ];
        let names = serde_json::json!({"apu": "QWxpY2U", "apv": "Qm9i"});
        let header = Header(names.as_object().unwrap().clone());
        let key = derive(&secret, "A128GCM", 16, &header).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(&*key), "VqqN6vgjbSBcIijNcacQGg");
    }

    #[test]
    fn damage_is_told_from_what_is_for_others() {
        let keys = PrivateKeys::default();
        let jwe = |change: &str| {
            let header = URL_SAFE_NO_PAD.encode(change);
            let jwe = serde_json::json!({"protected": header, "encrypted_key": "AA", "iv": "AA",
                "ciphertext": "AA", "tag": "AA"});
            unwrap(jwe.to_string().as_bytes(), &keys)
        };
        let known = jwe(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#);
        assert!(matches!(known, Err(UnwrapError::NotForUs)));
        for flawed in [
            "{}",
            "no JSON",
            r#"{"alg":"none","enc":"A256GCM"}"#,
            r#"{"alg":"ECDH-ES+A256KW","enc":"A256GCM"}"#,
        ] {
            assert!(
                matches!(jwe(flawed), Err(UnwrapError::Flawed(_))),
                "{flawed}"
            );
        }
        assert!(unwrap(b"{}", &keys).is_err());
    }
}
