//! Creating a container under a monitor.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which runtime makes the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RuntimeCommand {
    /// The one built in, run in a forked child without an exec.
    Builtin {
        /// Its state directory.
        root: PathBuf,
        /// Whether systemd makes the cgroup.
        #[serde(default)]
        systemd_cgroup: bool,
    },
    /// A runc-like binary.
    Command {
        /// The binary.
        path: PathBuf,
        /// Its state directory (`--root`).
        root: PathBuf,
        /// Whether it gets `--systemd-cgroup`.
        #[serde(default)]
        systemd_cgroup: bool,
        /// More arguments before the subcommand.
        #[serde(default)]
        args: Vec<String>,
    },
}

impl RuntimeCommand {
    /// Whether systemd makes the cgroup.
    pub fn systemd_cgroup(&self) -> bool {
        match self {
            Self::Builtin { systemd_cgroup, .. } | Self::Command { systemd_cgroup, .. } => {
                *systemd_cgroup
            }
        }
    }
}

/// What the container's stdout and stderr are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdioMode {
    /// Two pipes.
    Pipes,
    /// One pseudo terminal for all three.
    Terminal,
}

/// What the container's stdin is, when it has no terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdinMode {
    /// Nothing to read.
    Closed,
    /// A pipe that stays open when an attach session ends.
    Open,
    /// A pipe that is closed when the first attach session ends its input.
    Once,
}

/// Where the output is logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerLog {
    /// CRI log file.
    pub path: PathBuf,
    /// Start the file anew before it would exceed this many bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_max: Option<u64>,
    /// Flush it to disk when the container has ended.
    pub sync: bool,
    /// The name by which a copy goes to the system's journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<String>,
}

/// Request to make a container. Every path is absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateContainer {
    /// Container id.
    pub id: String,
    /// Bundle directory, which also gets `attach`, `ctl`, `winsz`, `pidfile`, `conmon-pidfile`.
    pub bundle: PathBuf,
    /// What makes it.
    pub runtime: RuntimeCommand,
    /// Pipes or a terminal.
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
    /// Use `chroot`-like moves instead of `pivot_root`.
    #[serde(default)]
    pub no_pivot: bool,
    /// How long the runtime may take.
    pub timeout_ms: u64,
}

/// What a container's processes are restored from, instead of making a first one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The program that reads the state of processes.
    pub criu: PathBuf,
    /// The directory with their images.
    pub images: PathBuf,
    /// The directory that gets `restore.log`.
    pub work: PathBuf,
}

/// Request to make a container of a checkpoint; it runs at once.
///
/// A request of its own, because a monitor that does not know it must not make a new container instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreContainer {
    /// The container.
    pub container: CreateContainer,
    /// Its processes.
    pub checkpoint: Checkpoint,
}
