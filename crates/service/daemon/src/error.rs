//! Why the daemon does not start.

use std::{io, path::PathBuf};

use crioxide_engine::ports::PortError;
use thiserror::Error;

/// Why the daemon does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// No threads.
    #[error("start the worker threads")]
    Runtime {
        /// Why not.
        source: io::Error,
    },
    /// A part could not be made.
    #[error("{action}")]
    Part {
        /// What was being done.
        action: String,
        /// Why it failed.
        source: PortError,
    },
    /// Somebody else answers on our socket.
    #[error("already existing connection on {}", path.display())]
    SocketInUse {
        /// The socket.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("{action} {}", path.display())]
    Socket {
        /// What was being done.
        action: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The gRPC server failed as a whole.
    #[error("serve")]
    Serve {
        /// Why.
        source: PortError,
    },
}

impl StartError {
    /// The failure of an action, for `map_err`.
    pub(crate) fn part<E: Into<PortError>>(action: impl Into<String>) -> impl FnOnce(E) -> Self {
        let action = action.into();
        move |source| Self::Part {
            action,
            source: source.into(),
        }
    }
}
