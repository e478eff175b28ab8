//! Messages to and from packets.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest packet in bytes. Unix sockets take about 200 KiB by default; nothing we send comes near this.
pub const MAX_PACKET: usize = 64 * 1024;

/// A packet that cannot be made or understood.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The message does not fit a packet.
    #[error("a monitor message of {length} bytes exceeds {MAX_PACKET}")]
    TooLarge {
        /// Its length.
        length: usize,
    },
    /// Not JSON, or not a message known here.
    #[error("malformed monitor message")]
    Malformed {
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// The packet of a message.
///
/// # Errors
/// [`CodecError::TooLarge`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = serde_json::to_vec(message).map_err(|source| CodecError::Malformed { source })?;
    if bytes.len() > MAX_PACKET {
        return Err(CodecError::TooLarge {
            length: bytes.len(),
        });
    }
    Ok(bytes)
}

/// The message in a packet.
///
/// # Errors
/// [`CodecError::Malformed`], [`CodecError::TooLarge`].
pub fn decode<T: DeserializeOwned>(packet: &[u8]) -> Result<T, CodecError> {
    if packet.len() > MAX_PACKET {
        return Err(CodecError::TooLarge {
            length: packet.len(),
        });
    }
    serde_json::from_slice(packet).map_err(|source| CodecError::Malformed { source })
}
