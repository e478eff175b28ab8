//! PKCS#7 enveloped data (RFC 2315) with AES-GCM, as the library of ocicrypt writes it: its parameters and its content are
//! tagged in its own way.

use aes_gcm::aead::Aead;
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit};
use der::asn1::ObjectIdentifier;
use der::{AnyRef, Decode, Reader, SliceReader, Tag, TagNumber, Tagged};
use rsa::Pkcs1v15Encrypt;
use zeroize::Zeroizing;

use super::UnwrapError;
use super::keys::PrivateKeys;

const ENVELOPED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.3");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const AES_128_GCM: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.6");
const AES_256_GCM: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.1.46");

/// The content, by the first private key that it was encrypted for.
pub(super) fn unwrap(
    message: &[u8],
    keys: &PrivateKeys,
) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
    let envelope = Envelope::parse(message).map_err(|_| UnwrapError::Flawed("PKCS#7"))?;
    let opened = envelope.keys.iter().flat_map(|encrypted| {
        let keys = keys.rsa.iter();
        keys.filter_map(|key| key.decrypt(Pkcs1v15Encrypt, encrypted).ok())
    });
    for key in opened.map(Zeroizing::new) {
        if let Some(content) = envelope.open(&key)? {
            return Ok(content);
        }
    }
    Err(UnwrapError::NotForUs)
}

struct Envelope<'a> {
    /// The content's key, encrypted for each reader.
    keys: Vec<&'a [u8]>,
    cipher: ObjectIdentifier,
    nonce: &'a [u8],
    content: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn parse(message: &'a [u8]) -> der::Result<Self> {
        let info = AnyRef::from_der(message)?;
        let mut info = inner(info, Tag::Sequence)?;
        let kind = info.decode::<ObjectIdentifier>()?;
        if kind != ENVELOPED {
            return Err(der::ErrorKind::OidUnknown { oid: kind }.into());
        }
        let explicit = inner(info.decode()?, context(0, true))?.decode()?;
        let mut data = inner(explicit, Tag::Sequence)?;
        data.decode::<u8>()?; // its version
        let mut readers = inner(data.decode()?, Tag::Set)?;
        let mut keys = Vec::new();
        while !readers.is_finished() {
            let mut reader = inner(readers.decode()?, Tag::Sequence)?;
            reader.decode::<u8>()?;
            reader.decode::<AnyRef<'_>>()?; // whose certificate it is
            let algorithm = inner(reader.decode()?, Tag::Sequence)?.decode::<ObjectIdentifier>()?;
            let key: AnyRef<'a> = reader.decode()?;
            if algorithm == RSA {
                keys.push(value(key, Tag::OctetString)?);
            }
        }
        let mut sealed = inner(data.decode()?, Tag::Sequence)?;
        sealed.decode::<ObjectIdentifier>()?; // what is in it
        let mut algorithm = inner(sealed.decode()?, Tag::Sequence)?;
        let cipher = algorithm.decode()?;
        let parameters = match algorithm.read_slice(algorithm.remaining_len())? {
            // A sequence around the parameters that claims to be none.
            [0x10, _, parameters @ ..] | parameters => AnyRef::from_der(parameters)?,
        };
        let nonce: AnyRef<'a> = inner(parameters, Tag::Sequence)?.decode()?;
        let nonce = match nonce.tag() {
            Tag::OctetString => nonce.value(),
            _ => value(nonce, context(4, false))?,
        };
        let content: AnyRef<'a> = sealed.decode()?;
        let content = match content.tag() == context(0, true) {
            true => value(
                inner(content, context(0, true))?.decode()?,
                Tag::OctetString,
            )?,
            false => value(content, context(0, false))?,
        };
        Ok(Self {
            keys,
            cipher,
            nonce,
            content,
        })
    }

    /// Decrypts the content; `None` with the wrong key.
    fn open(&self, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, UnwrapError> {
        if self.nonce.len() != 12 {
            return Err(UnwrapError::Flawed("nonce"));
        }
        let nonce = aes_gcm::Nonce::from_slice(self.nonce);
        let opened = match self.cipher {
            AES_128_GCM => Aes128Gcm::new_from_slice(key)
                .ok()
                .map(|key| key.decrypt(nonce, self.content)),
            AES_256_GCM => Aes256Gcm::new_from_slice(key)
                .ok()
                .map(|key| key.decrypt(nonce, self.content)),
            _ => return Err(UnwrapError::Flawed("unknown cipher")),
        };
        Ok(opened.and_then(Result::ok).map(Zeroizing::new))
    }
}

fn context(number: u8, constructed: bool) -> Tag {
    Tag::ContextSpecific {
        constructed,
        number: TagNumber::new(number),
    }
}

fn value<'a>(any: AnyRef<'a>, tag: Tag) -> der::Result<&'a [u8]> {
    any.tag().assert_eq(tag)?;
    Ok(any.value())
}

fn inner<'a>(any: AnyRef<'a>, tag: Tag) -> der::Result<SliceReader<'a>> {
    SliceReader::new(value(any, tag)?)
}
