//! Private keys: PEM, DER and JWK.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crioxide_files::{ReadLimitedError, read_limited};
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::{BigUint, RsaPrivateKey};
use serde::Deserialize;
use zeroize::Zeroizing;

/// A larger file is no key (bytes).
const MAX_FILE: u64 = 1 << 20;
/// More files than this are no directory of keys.
const MAX_FILES: usize = 1000;

/// All private keys of the node.
#[derive(Default)]
pub(super) struct PrivateKeys {
    pub(super) rsa: Vec<RsaPrivateKey>,
    pub(super) p256: Vec<p256::SecretKey>,
    pub(super) p384: Vec<p384::SecretKey>,
    pub(super) p521: Vec<p521::SecretKey>,
}

/// Why the directory of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadKeysError {
    /// It cannot be listed.
    #[error("list `{}`", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// One of its files cannot be read.
    #[error(transparent)]
    Read(#[from] ReadLimitedError),
    /// Something in it is no key.
    #[error("`{}`: {reason}", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

impl PrivateKeys {
    /// Reads every file below `directory`; without the directory there are none.
    pub(super) fn load(directory: &Path) -> Result<Self, LoadKeysError> {
        let mut keys = Self::default();
        let mut files = 0;
        let mut pending = vec![directory.to_owned()];
        while let Some(path) = pending.pop() {
            let fail = |source| LoadKeysError::List {
                path: path.clone(),
                source,
            };
            let entries = match fs::read_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(fail)?,
            };
            for entry in entries {
                let entry: DirEntry = entry.map_err(fail)?;
                let refuse = |reason| LoadKeysError::NotAKey {
                    path: entry.path(),
                    reason,
                };
                let kind = entry.file_type().map_err(fail)?;
                if kind.is_dir() {
                    pending.push(entry.path());
                    continue;
                }
                files += 1;
                if kind.is_symlink() {
                    return Err(refuse("symbolic links are not followed"));
                }
                if files > MAX_FILES {
                    return Err(refuse("too many files"));
                }
                let bytes = Zeroizing::new(read_limited(entry.path(), MAX_FILE)?);
                keys.add(&bytes).map_err(refuse)?;
            }
        }
        Ok(keys)
    }

    pub(super) fn len(&self) -> usize {
        self.rsa.len() + self.p256.len() + self.p384.len() + self.p521.len()
    }

    /// Adds the key that a file holds. Certificates are passed over: who a key is for is known without them.
    fn add(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        if bytes.trim_ascii_start().starts_with(b"{") {
            return self.add_jwk(bytes);
        }
        let text = str::from_utf8(bytes).unwrap_or_default().trim_ascii_start();
        if text.starts_with("-----BEGIN CERTIFICATE") {
            return Ok(());
        }
        if text.contains("ENCRYPTED") {
            return Err("an encrypted key: there is nobody to ask for its password");
        }
        let key = RsaPrivateKey::from_pkcs8_pem(text)
            .ok()
            .or_else(|| RsaPrivateKey::from_pkcs1_pem(text).ok())
            .or_else(|| RsaPrivateKey::from_pkcs8_der(bytes).ok())
            .or_else(|| RsaPrivateKey::from_pkcs1_der(bytes).ok());
        if let Some(key) = key {
            self.rsa.push(key);
            return Ok(());
        }
        macro_rules! curves {
            ($($curve:ident),*) => {$(
                let key = $curve::SecretKey::from_sec1_pem(text)
                    .ok()
                    .or_else(|| $curve::SecretKey::from_pkcs8_pem(text).ok())
                    .or_else(|| $curve::SecretKey::from_pkcs8_der(bytes).ok())
                    .or_else(|| $curve::SecretKey::from_sec1_der(bytes).ok());
                if let Some(key) = key {
                    self.$curve.push(key);
                    return Ok(());
                }
            )*};
        }
        curves!(p256, p384, p521);
        Err("no private key of RSA, P-256, P-384 or P-521 in PEM, DER or JWK")
    }

    fn add_jwk(&mut self, json: &[u8]) -> Result<(), &'static str> {
        let jwk: Jwk = serde_json::from_slice(json).map_err(|_| "not a JWK")?;
        let decode = |text: &str| {
            URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| "a JWK's number is no base64")
        };
        let secret = Zeroizing::new(decode(&jwk.d)?);
        let flawed = "a JWK that makes no sense";
        match (jwk.kty.as_str(), jwk.crv.as_str()) {
            ("RSA", _) => {
                let number = |text: &str| decode(text).map(|bytes| BigUint::from_bytes_be(&bytes));
                let primes = match (jwk.p.as_str(), jwk.q.as_str()) {
                    ("", _) | (_, "") => Vec::new(),
                    (p, q) => vec![number(p)?, number(q)?],
                };
                let (modulus, exponent) = (number(&jwk.n)?, number(&jwk.e)?);
                let secret = BigUint::from_bytes_be(&secret);
                let key = RsaPrivateKey::from_components(modulus, exponent, secret, primes);
                self.rsa.push(key.map_err(|_| flawed)?);
            }
            ("EC", "P-256") => {
                self.p256
                    .push(p256::SecretKey::from_slice(&secret).map_err(|_| flawed)?);
            }
            ("EC", "P-384") => {
                self.p384
                    .push(p384::SecretKey::from_slice(&secret).map_err(|_| flawed)?);
            }
            ("EC", "P-521") => {
                self.p521
                    .push(p521::SecretKey::from_slice(&secret).map_err(|_| flawed)?);
            }
            _ => return Err("a JWK of another kind than RSA, P-256, P-384 and P-521"),
        }
        Ok(())
    }
}

/// A private key as JSON (RFC 7517).
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Jwk {
    kty: String,
    crv: String,
    n: String,
    e: String,
    d: String,
    p: String,
    q: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inner");
        assert_eq!(PrivateKeys::load(&path).unwrap().len(), 0);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("cert.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert_eq!(PrivateKeys::load(directory.path()).unwrap().len(), 0);
        for (content, reason) in [
            ("hello", "no private key"),
            ("{}", "a JWK of another kind"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "password"),
        ] {
            fs::write(path.join("key"), content).unwrap();
            let Err(error) = PrivateKeys::load(directory.path()) else {
                panic!("{content} is taken for a key");
            };
            let error = error.to_string();
            assert!(
                error.contains("inner/key") && error.contains(reason),
                "{error}"
            );
        }
        fs::remove_file(path.join("key")).unwrap();
        std::os::unix::fs::symlink("cert.pem", path.join("link")).unwrap();
        assert!(PrivateKeys::load(directory.path()).is_err());
    }

    #[test]
    fn keys_come_as_jwk_too() {
        let mut keys = PrivateKeys::default();
        // RFC 7517, A.2.
        let ec = r#"{"kty":"EC","crv":"P-256","d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"}"#;
        keys.add(ec.as_bytes()).unwrap();
        assert_eq!((keys.p256.len(), keys.len()), (1, 1));
        assert!(keys.add(br#"{"kty":"EC","crv":"P-384","d":"AA"}"#).is_err());
    }
}
