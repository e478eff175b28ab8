//! Why a layer could not be had.

use crioxide_names::Digest;

use crate::copy::StallError;
use crate::source::SourceError;

/// Why a layer could not be fetched, verified or unpacked. `digest` is that of its blob.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// Its blob cannot be fetched.
    #[error("fetch layer `{digest}`")]
    Fetch {
        /// The blob.
        digest: Digest,
        /// What went wrong.
        source: SourceError,
    },
    /// Its blob has another size than the manifest says.
    #[error("layer `{digest}`: {received} bytes received, but its size is {wanted}")]
    WrongSize {
        /// The blob.
        digest: Digest,
        /// Bytes, by the manifest.
        wanted: u64,
        /// Bytes received.
        received: u64,
    },
    /// Its blob has another digest than the manifest says.
    #[error("layer `{digest}`: its content has digest `{actual}`")]
    WrongDigest {
        /// The blob.
        digest: Digest,
        /// What came.
        actual: Digest,
    },
    /// Its tar has another digest than the config says.
    #[error(
        "layer `{digest}`: its uncompressed content has digest `{actual}`, the image's config says `{wanted}`"
    )]
    WrongDiffId {
        /// The blob.
        digest: Digest,
        /// By the config.
        wanted: Digest,
        /// What came.
        actual: Digest,
    },
    /// Parts of its blob cannot be fetched any more.
    #[error("layer `{digest}`: {reason}")]
    Partial {
        /// The blob.
        digest: Digest,
        /// Why.
        reason: String,
    },
    /// Its compression is unknown.
    #[error("decompress layer `{digest}`")]
    Decompress {
        /// The blob.
        digest: Digest,
        /// What went wrong.
        source: std::io::Error,
    },
    /// Its content can be read with a key only.
    #[error("layer `{digest}` is encrypted")]
    Encrypted {
        /// The blob.
        digest: Digest,
        /// Why its key cannot be had.
        source: super::encryption::UnlockError,
    },
    /// It was changed after it was encrypted.
    #[error("decrypt layer `{digest}`")]
    Decrypt {
        /// The blob.
        digest: Digest,
        /// What went wrong.
        source: std::io::Error,
    },
    /// It cannot be unpacked or recorded.
    #[error("store layer `{digest}`")]
    Store {
        /// The blob.
        digest: Digest,
        /// What went wrong.
        source: Box<crioxide_store::LayerError>,
    },
    /// The store's disk does not answer.
    #[error("unpack layer `{digest}`")]
    Stalled {
        /// The blob.
        digest: Digest,
        /// How long it was waited for.
        source: StallError,
    },
    /// Another layer of the image failed first.
    #[error("layer `{digest}` is not needed any more")]
    Stopped {
        /// The blob.
        digest: Digest,
    },
    /// Its thread panicked or the program is ending.
    #[error("unpack layer `{digest}`: its thread ended")]
    Lost {
        /// The blob.
        digest: Digest,
        /// How.
        source: tokio::task::JoinError,
    },
}

impl LayerError {
    /// Whether another source of the same image may do better.
    pub(crate) fn blames_source(&self) -> bool {
        !matches!(
            self,
            Self::Store { .. } | Self::Stalled { .. } | Self::Lost { .. }
        )
    }
}
