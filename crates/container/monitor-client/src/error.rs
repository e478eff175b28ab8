//! Why a request to a monitor was not done.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crioxide_monitor_protocol::Failure;

/// Failure of a request to a spawner or a monitor.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The spawner program cannot be run.
    #[error("cannot start the spawner `{}`", path.display())]
    StartSpawner {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody listens on the monitor's socket, or it does not let us in.
    #[error("cannot connect to the monitor socket `{}`", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The other side ended before it answered.
    #[error("the {peer} ended before it {} `{request}`", if *sent { "answered" } else { "received" })]
    Gone {
        /// `monitor` or `spawner`.
        peer: &'static str,
        /// What was asked.
        request: &'static str,
        /// Whether the request was sent: it may have been carried out then, and else was not.
        sent: bool,
    },
    /// No answer came in time.
    #[error("the {peer} did not answer `{request}` within {}s", timeout.as_secs())]
    Silent {
        /// `monitor` or `spawner`.
        peer: &'static str,
        /// What was asked.
        request: &'static str,
        /// How long was waited.
        timeout: Duration,
    },
    /// The request was refused.
    #[error("{failure}")]
    Failed {
        /// Why, in the monitor's words.
        failure: Failure,
    },
    /// The answer was not one to this request.
    #[error("the monitor gave an unexpected answer to `{request}`")]
    Unexpected {
        /// What was asked.
        request: &'static str,
    },
    /// The request could not be sent or prepared.
    #[error("cannot {step} for the request `{request}`")]
    Prepare {
        /// What was tried.
        step: &'static str,
        /// What was asked.
        request: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl MonitorError {
    /// Whether the other side had ended by the time the request was to be sent, so that nothing was begun.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Gone { sent: false, .. })
    }

    /// The monitor's own words and kind, if it answered.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed { failure } => Some(failure),
            _ => None,
        }
    }
}
