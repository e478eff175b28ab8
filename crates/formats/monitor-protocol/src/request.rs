//! Requests of the daemon to a monitor, and the answers.

use serde::{Deserialize, Serialize};

use crate::{
    ContainerReport, CreateContainer, Event, ExecRequest, Failure, KeepStdio, RestoreContainer,
};

/// A request with the number its reply will carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFrame {
    /// Chosen by the client, unique among its open requests.
    pub seq: u64,
    /// What is wanted.
    pub request: Request,
}

/// What a monitor can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// First request of a connection. Events follow from here on.
    Hello {
        /// The client's protocol version.
        version: u32,
    },
    /// The containers, from the given position.
    List {
        /// 0, or `next` of the page before.
        from: usize,
    },
    /// Makes a container, up to but not including its start.
    CreateContainer(Box<CreateContainer>),
    /// Makes a container of a checkpoint, which runs.
    RestoreContainer(Box<RestoreContainer>),
    /// Keeps the input and output of a container that a shim is about to make.
    KeepStdio(Box<KeepStdio>),
    /// The shim has made it. The monitor watches its cgroup from now on.
    Made {
        /// Container id.
        id: String,
        /// Host pid that stands for its first process.
        pid: i32,
    },
    /// The shim says that it has ended, or has not made it: then nothing of it stays, not even its log.
    Ended {
        /// Container id.
        id: String,
        /// Exit code, 128 + n for signal n.
        exit_code: i32,
        /// Unix time of the end in nanoseconds.
        finished_at_ns: i64,
    },
    /// Runs a process in a container.
    Exec(ExecRequest),
    /// Signals an exec's process group.
    KillExec {
        /// Name of the exec.
        exec: String,
        /// Signal number.
        signal: i32,
    },
    /// Opens the log path again after somebody renamed the file.
    ReopenLog {
        /// Container id.
        id: String,
    },
    /// Changes the size of a container's terminal.
    Resize {
        /// Container id.
        id: String,
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Ends the container's stdin.
    CloseStdin {
        /// Container id.
        id: String,
    },
    /// Forgets an ended container and removes its sockets and pipes. Exit files and log stay.
    Remove {
        /// Container id.
        id: String,
    },
    /// Ends the monitor, when nothing lives under it.
    Shutdown,
}

/// Answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// To `Hello`.
    Hello {
        /// The monitor's protocol version.
        version: u32,
        /// Its process id.
        pid: i32,
    },
    /// To `List`.
    Containers {
        /// One page.
        containers: Vec<ContainerReport>,
        /// Where the next page begins, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<usize>,
    },
    /// To `CreateContainer`.
    Created {
        /// Host pid of the container's first process.
        pid: i32,
        /// What the host could not do and the container runs without.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// To `Exec`.
    ExecStarted {
        /// Host pid of the process.
        pid: i32,
    },
    /// To everything else.
    Done,
    /// To everything that failed.
    Failed(Failure),
}

/// What a monitor sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ServerFrame {
    /// Answer to the request with this number.
    Reply {
        /// Number of the request.
        seq: u64,
        /// The answer.
        #[serde(flatten)]
        reply: Reply,
    },
    /// Something happened.
    Event(Event),
}
