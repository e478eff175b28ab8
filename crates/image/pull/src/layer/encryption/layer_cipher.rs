//! The cipher of a layer's content: AES-256 in counter mode, then HMAC.

use std::collections::BTreeMap;
use std::io::{self, Read};

use aes::Aes256;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use hmac::{Hmac, Mac};
use serde::Deserialize;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The only cipher that there is.
const CIPHER: &str = "AES_256_CTR_HMAC_SHA256";

/// What opens a layer.
#[derive(Clone)]
pub(crate) struct LayerKey {
    key: Zeroizing<Vec<u8>>,
    nonce: Vec<u8>,
    mac: Vec<u8>,
}

impl std::fmt::Debug for LayerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LayerKey")
    }
}

#[derive(Deserialize)]
struct Private {
    symkey: String,
    #[serde(default)]
    cipheroptions: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Public {
    cipher: String,
    hmac: String,
}

impl LayerKey {
    /// From the two documents that go with a layer, of which `private` was encrypted.
    pub(super) fn parse(private: &[u8], public: &[u8]) -> Result<Self, &'static str> {
        let private: Private =
            serde_json::from_slice(private).map_err(|_| "what was encrypted is no key")?;
        let public: Public =
            serde_json::from_slice(public).map_err(|_| "its annotation tells no cipher")?;
        let decode = |text: &str| {
            STANDARD
                .decode(text)
                .map_err(|_| "a part of its key is no base64")
        };
        let nonce = private
            .cipheroptions
            .get("nonce")
            .ok_or("its key has no nonce")?;
        let key = Self {
            key: Zeroizing::new(decode(&private.symkey)?),
            nonce: decode(nonce)?,
            mac: decode(&public.hmac)?,
        };
        if public.cipher != CIPHER || key.key.len() != 32 || key.nonce.len() != 16 {
            return Err("its cipher is not known");
        }
        Ok(key)
    }
}

/// Decrypts what it reads. Only its end tells whether all of it was right.
pub(crate) struct DecryptingReader<R> {
    inner: R,
    stream: Ctr128BE<Aes256>,
    mac: Hmac<Sha256>,
    expected: Vec<u8>,
}

impl<R: Read> DecryptingReader<R> {
    pub(crate) fn new(inner: R, key: &LayerKey) -> io::Result<Self> {
        let wrong = io::Error::other;
        Ok(Self {
            inner,
            stream: Ctr128BE::new_from_slices(&key.key, &key.nonce).map_err(wrong)?,
            mac: Hmac::new_from_slice(&key.key).map_err(wrong)?,
            expected: key.mac.clone(),
        })
    }

    /// Reads what was left, and verifies everything.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink())?;
        self.mac.verify_slice(&self.expected).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "its encrypted content was changed",
            )
        })
    }
}

impl<R: Read> Read for DecryptingReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.mac.update(&into[..count]);
        self.stream.apply_keystream(&mut into[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_was_changed_is_found_at_its_end() {
        let key = LayerKey {
            key: Zeroizing::new(vec![1; 32]),
            nonce: vec![0xff; 16],
            mac: Vec::new(),
        };
        let plain = vec![7; 1000];
        let mut sealed = plain.clone();
        let mut stream = Ctr128BE::<Aes256>::new_from_slices(&key.key, &key.nonce).unwrap();
        stream.apply_keystream(&mut sealed);
        let mut mac = Hmac::<Sha256>::new_from_slice(&key.key).unwrap();
        mac.update(&sealed);
        let key = LayerKey {
            mac: mac.finalize().into_bytes().to_vec(),
            ..key
        };
        let open = |sealed: &[u8]| {
            let mut reader = DecryptingReader::new(sealed, &key).unwrap();
            let mut opened = vec![0; 400];
            reader.read_exact(&mut opened).unwrap();
            (opened, reader.finish().is_ok())
        };
        assert_eq!(open(&sealed), (plain[..400].to_vec(), true));
        sealed[700] ^= 1;
        assert_eq!(open(&sealed), (plain[..400].to_vec(), false));
        assert!(!open(&sealed[..999]).1);
    }
}
