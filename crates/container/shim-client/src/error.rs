//! What can go wrong between us and a shim.

use std::{io, time::Duration};

/// Why a shim was not reached, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// It said something else than where it listens.
    #[error("the shim answered `{text}` where its address belongs")]
    Bootstrap {
        /// The beginning of it.
        text: String,
    },
    /// It speaks a protocol that we do not.
    #[error("the shim speaks {protocol} version {version}, not ttrpc version 2 or 3")]
    Protocol {
        /// Name.
        protocol: String,
        /// Version of the task service.
        version: u32,
    },
    /// An address that cannot be one.
    #[error("`{address}` is no address of a unix socket")]
    Address {
        /// The address.
        address: String,
    },
    /// Nobody listens there.
    #[error("cannot connect to the shim at `{address}`")]
    Connect {
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Whoever listens there is another user.
    #[error("the process that listens at `{address}` runs as user {user}")]
    Untrusted {
        /// The address.
        address: String,
        /// Its user id.
        user: u32,
    },
    /// The connection ended before the answer.
    #[error("the shim has closed the connection before it answered `{method}`")]
    Gone {
        /// What was asked.
        method: &'static str,
    },
    /// No answer in time; it may still come to pass.
    #[error("the shim has not answered `{method}` within {} s", timeout.as_secs_f32())]
    Silent {
        /// What was asked.
        method: &'static str,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// It said no.
    #[error("{message}")]
    Refused {
        /// What was asked.
        method: &'static str,
        /// Code of gRPC.
        code: i32,
        /// In its words.
        message: String,
    },
    /// A request beyond what a frame holds.
    #[error("a request of {length} bytes is too long for the shim")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// An answer that makes no sense.
    #[error("the shim's answer to `{method}` is malformed")]
    Malformed {
        /// What was asked.
        method: &'static str,
        /// Why.
        source: prost::DecodeError,
    },
}

/// gRPC's code for what does not exist.
const NOT_FOUND: i32 = 5;
/// gRPC's code for what the state does not allow: a process that has ended, to containerd's shims.
const FAILED_PRECONDITION: i32 = 9;

impl ShimError {
    /// Whether the shim does not know the container or process, or no more.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Refused { code, message, .. } => {
                *code == NOT_FOUND
                    || *code == FAILED_PRECONDITION && message.contains("not found")
                    || message.contains("process already finished")
            }
            _ => false,
        }
    }

    /// Whether there is nobody to talk to any more.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Gone { .. } => true,
            // A queue of connections that is full is one that nobody takes.
            Self::Connect { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ),
            _ => false,
        }
    }

    /// Whether the shim lives and does not answer.
    pub fn is_silent(&self) -> bool {
        match self {
            Self::Silent { .. } => true,
            Self::Connect { source, .. } => source.kind() == io::ErrorKind::WouldBlock,
            _ => false,
        }
    }
}
