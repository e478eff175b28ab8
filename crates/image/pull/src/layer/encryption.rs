//! Encrypted layers, as ocicrypt makes them.
//!
//! The annotations of such a layer hold its key, encrypted for each reader's public key as JWE or PKCS#7. Whoever has a private
//! key may have the layer, whether its content is here already or not.

mod jwe;
mod keys;
mod layer_cipher;
mod pkcs7;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

pub use keys::LoadKeysError;
use keys::PrivateKeys;
pub(crate) use layer_cipher::{DecryptingReader, LayerKey};

use crate::manifest::Descriptor;

/// How the media types of encrypted layers end.
const SUFFIX: &str = "+encrypted";
/// More encrypted keys than this are not tried.
const MAX_READERS: usize = 100;
const PUBLIC_OPTIONS: &str = "org.opencontainers.image.enc.pubopts";

/// Takes the key out of what is encrypted for one of the private keys.
type Unwrap = fn(&[u8], &PrivateKeys) -> Result<Zeroizing<Vec<u8>>, UnwrapError>;

/// The ways keys are encrypted, by annotation.
const SCHEMES: [(&str, Unwrap); 2] = [
    ("org.opencontainers.image.enc.keys.jwe", jwe::unwrap),
    ("org.opencontainers.image.enc.keys.pkcs7", pkcs7::unwrap),
];

/// Why the key of a layer cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// The private keys cannot be read.
    #[error(transparent)]
    Keys(#[from] LoadKeysError),
    /// The layer says nothing that could be understood.
    #[error("{0}")]
    Flawed(&'static str),
    /// It is encrypted for others.
    #[error("none of the {keys} private keys in `{directory}` opens it")]
    NoKey {
        /// How many there are.
        keys: usize,
        /// Where they are.
        directory: String,
    },
}

/// Why one encrypted key cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnwrapError {
    #[error("it is for nobody here")]
    NotForUs,
    #[error("not what it should be: {0}")]
    Flawed(&'static str),
}

/// Whether the layer can be read with a key only.
pub(crate) fn is_encrypted(layer: &Descriptor) -> bool {
    layer.media_type.ends_with(SUFFIX)
}

/// The keys of the layers that are encrypted, by the private keys in `directory`, which is read for it.
///
/// # Errors
/// The layer, by position, whose key cannot be had.
pub(crate) fn unlock(
    layers: &[Descriptor],
    directory: &Path,
) -> Result<Vec<Option<LayerKey>>, (usize, UnlockError)> {
    let mut private = None;
    let mut keys = Vec::with_capacity(layers.len());
    for (index, layer) in layers.iter().enumerate() {
        if !is_encrypted(layer) {
            keys.push(None);
            continue;
        }
        let private = match &mut private {
            Some(private) => private,
            none => none.insert(PrivateKeys::load(directory).map_err(|e| (index, e.into()))?),
        };
        keys.push(Some(
            unlock_layer(layer, private, directory).map_err(|e| (index, e))?,
        ));
    }
    Ok(keys)
}

fn unlock_layer(
    layer: &Descriptor,
    private: &PrivateKeys,
    directory: &Path,
) -> Result<LayerKey, UnlockError> {
    let decode = |text: &str| {
        let flawed = UnlockError::Flawed("an annotation is no base64");
        STANDARD.decode(text).map_err(|_| flawed)
    };
    let public = match layer.annotations.get(PUBLIC_OPTIONS) {
        Some(text) => decode(text)?,
        None => return Err(UnlockError::Flawed("no annotation tells its cipher")),
    };
    let encrypted = SCHEMES.iter().flat_map(|(annotation, unwrap)| {
        let texts = layer.annotations.get(*annotation).into_iter();
        texts
            .flat_map(|texts| texts.split(','))
            .map(move |text| (text, unwrap))
    });
    for (text, unwrap) in encrypted.take(MAX_READERS) {
        match unwrap(&decode(text)?, private) {
            Ok(options) => return LayerKey::parse(&options, &public).map_err(UnlockError::Flawed),
            Err(error) => tracing::debug!(layer = %layer.digest, %error, "a key does not open"),
        }
    }
    Err(UnlockError::NoKey {
        keys: private.len(),
        directory: directory.display().to_string(),
    })
}
