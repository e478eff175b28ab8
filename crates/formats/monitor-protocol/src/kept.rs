//! A container that a shim makes and watches, and whose input and output a monitor keeps.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ContainerLog, CreateContainer, StdinMode, StdioMode};

/// Request to keep a container's input and output. Every path is absolute.
///
/// The FIFOs `stdin` (unless that is closed), `stdout` and (without a terminal) `stderr` appear in the bundle, for the
/// shim to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepStdio {
    /// Container id.
    pub id: String,
    /// Bundle directory, which also gets `attach`, `ctl` and `winsz`.
    pub bundle: PathBuf,
    /// Pipes or a terminal, whose master the shim has.
    pub stdio: StdioMode,
    /// Kind of stdin.
    pub stdin: StdinMode,
    /// Log file.
    pub log: ContainerLog,
    /// `<exit_dir>/<id>` gets the exit code.
    pub exit_dir: PathBuf,
    /// `<persist_dir>/exit` gets it first.
    pub persist_dir: PathBuf,
    /// `<attach_socket_dir>/<id>` becomes a link to the bundle.
    pub attach_socket_dir: PathBuf,
    /// cgroup of the container as in its `config.json`, for out-of-memory kills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Whether systemd makes the cgroup.
    #[serde(default)]
    pub systemd_cgroup: bool,
}

impl KeepStdio {
    /// The FIFO of stdin, unless there is none.
    pub fn stdin_fifo(&self) -> Option<PathBuf> {
        (self.stdin != StdinMode::Closed).then(|| self.bundle.join("stdin"))
    }

    /// The FIFO of stdout, or of the terminal's output.
    pub fn stdout_fifo(&self) -> PathBuf {
        self.bundle.join("stdout")
    }

    /// The FIFO of stderr, unless there is a terminal.
    pub fn stderr_fifo(&self) -> Option<PathBuf> {
        (self.stdio == StdioMode::Pipes).then(|| self.bundle.join("stderr"))
    }
}

impl From<&CreateContainer> for KeepStdio {
    /// What the monitor keeps of a container that it makes itself.
    fn from(request: &CreateContainer) -> Self {
        Self {
            id: request.id.clone(),
            bundle: request.bundle.clone(),
            stdio: request.stdio,
            stdin: request.stdin,
            log: request.log.clone(),
            exit_dir: request.exit_dir.clone(),
            persist_dir: request.persist_dir.clone(),
            attach_socket_dir: request.attach_socket_dir.clone(),
            cgroup: request.cgroup.clone(),
            systemd_cgroup: request.runtime.systemd_cgroup(),
        }
    }
}
