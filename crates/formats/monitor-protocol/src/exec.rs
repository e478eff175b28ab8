//! Running one more process in a container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::RuntimeCommand;

/// Where the process gets its standard descriptors from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ExecStdio {
    /// From descriptors beside the request: after the process document come those said to be present, in this order.
    /// An absent one is `/dev/null`.
    Descriptors {
        /// Whether stdin comes.
        stdin: bool,
        /// Whether stdout comes.
        stdout: bool,
        /// Whether stderr comes.
        stderr: bool,
    },
    /// A pseudo terminal, whose master is sent to this listening stream socket.
    Terminal {
        /// Path of the socket.
        console_socket: PathBuf,
        /// Whether a descriptor comes for what a runtime binary says of its own.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        stderr: bool,
    },
}

/// Request to run a process. The first descriptor beside it is a readable file (usually a sealed memfd) with the OCI
/// `process` document.
///
/// Nobody but the caller watches the time: to end it, send `KillExec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Container to run it in.
    pub container: String,
    /// Name for the exec, unique among the living execs of this monitor.
    pub exec: String,
    /// Standard descriptors.
    pub stdio: ExecStdio,
    /// How to reach the container when it is not one of this monitor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<ForeignContainer>,
}

/// A container that another monitor made: conmon, or one that died.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignContainer {
    /// The runtime that knows it.
    pub runtime: RuntimeCommand,
    /// Its bundle, for files of the exec.
    pub bundle: PathBuf,
}
