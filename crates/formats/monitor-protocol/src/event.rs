//! What a monitor tells without being asked, and what it knows of its containers.

use serde::{Deserialize, Serialize};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// Exit status, or 128 plus the signal.
    pub exit_code: i32,
    /// The signal that killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed something in the container for lack of memory.
    #[serde(default)]
    pub oom_killed: bool,
    /// Unix time of the end in nanoseconds.
    pub finished_at_ns: i64,
}

/// A container as its monitor knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerReport {
    /// Container id.
    pub id: String,
    /// Host pid of its first process; kept after its end.
    pub pid: i32,
    /// How it ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitReport>,
    /// It is a shim's, and its stdin was closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin_closed: bool,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A container ended. Its output is in the log, its exit files are written.
    Exited {
        /// Container id.
        id: String,
        /// How.
        exit: ExitReport,
    },
    /// The kernel killed a process of a container for lack of memory.
    Oom {
        /// Container id.
        id: String,
    },
    /// Nobody will type into a shim's container any more, and the shim holds its FIFO open.
    StdinClosed {
        /// Container id.
        id: String,
    },
    /// A process run by `Exec` ended.
    ExecExited {
        /// Container id.
        container: String,
        /// Name of the exec.
        exec: String,
        /// How.
        exit: ExitReport,
    },
    /// An event of a newer version.
    #[serde(other)]
    Unknown,
}
