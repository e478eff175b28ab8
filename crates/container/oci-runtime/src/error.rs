//! Why a runtime operation failed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Failure of one [`OciRuntime`](crate::OciRuntime) operation.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The runtime has no container of this id.
    #[error("container {id} does not exist in the runtime")]
    NotFound {
        /// Container id.
        id: String,
    },
    /// The operation needs a living process and there is none.
    #[error("container {id} is not running")]
    NotRunning {
        /// Container id.
        id: String,
    },
    /// The state the container is in does not allow the operation.
    #[error("cannot {operation} container {id} while it is {status}")]
    WrongState {
        /// `start`, `delete`, ...
        operation: &'static str,
        /// Container id.
        id: String,
        /// The state it is in.
        status: crate::ContainerStatus,
    },
    /// The runtime binary could not be run.
    #[error("cannot run the runtime `{path}`")]
    Launch {
        /// The binary.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The runtime binary ended with a failure.
    #[error("`{path} {operation}` for {subject} failed with {status}: {stderr}", path = path.display())]
    Failed {
        /// The binary.
        path: PathBuf,
        /// Its subcommand.
        operation: &'static str,
        /// The container id, or the runtime itself.
        subject: String,
        /// How it ended, for example `exit status: 1`.
        status: String,
        /// What it said, shortened.
        stderr: String,
    },
    /// The runtime binary did not end in time and was killed.
    #[error("`{path} {operation}` for {subject} was killed after {}s without an answer", timeout.as_secs_f32(), path = path.display())]
    TimedOut {
        /// The binary.
        path: PathBuf,
        /// Its subcommand.
        operation: &'static str,
        /// The container id, or the runtime itself.
        subject: String,
        /// How long it was given.
        timeout: Duration,
    },
    /// The runtime binary's answer was not what the OCI specification says.
    #[error("cannot understand the answer of `{path} {operation}`", path = path.display())]
    Answer {
        /// The binary.
        path: PathBuf,
        /// Its subcommand.
        operation: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The request itself cannot be encoded.
    #[error("cannot encode the resources for container {id}")]
    Encode {
        /// Container id.
        id: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The runtime cannot write down the state of processes.
    #[error("configured runtime does not support checkpoint/restore")]
    NoCheckpoints,
    /// An operation of a runtime living in this process failed.
    #[error("cannot {operation} container {id}")]
    Operation {
        /// `start`, `kill`, ...
        operation: &'static str,
        /// Container id.
        id: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
