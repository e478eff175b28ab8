//! Requests of the daemon to the spawner.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Failure;

/// Where a monitor is to live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorCgroup {
    /// As a `cgroupsPath`: a directory, or `slice:prefix:name` with the systemd driver.
    pub path: String,
    /// Whether systemd makes it.
    pub systemd: bool,
    /// Whether it is somebody's already, and only entered, where processes are limited or accounted for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub existing: bool,
}

/// What a new monitor needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorConfig {
    /// Pod the monitor is for.
    pub pod: String,
    /// Socket it listens on; its directory must exist, and the monitor ends when that is gone and nothing lives.
    pub socket: PathBuf,
    /// Its own cgroup; `None` leaves it in the spawner's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<MonitorCgroup>,
}

/// A program to be run in a process of its own: conmon, or a shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// Its arguments, without the program's name.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub directory: PathBuf,
    /// The cgroup it is born in; `None` leaves it in the spawner's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<MonitorCgroup>,
    /// The first three descriptors beside the request become its standard input, output and error; those after them
    /// become its 3, 4 and so on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdio: bool,
}

/// Request to the spawner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum SpawnerRequest {
    /// Start a monitor.
    Spawn {
        /// Number the reply carries.
        seq: u64,
        /// What it needs to know.
        config: MonitorConfig,
    },
    /// Run a program. The descriptors beside the request become its 3, 4 and so on; standard input and output are
    /// `/dev/null`, standard error is the daemon's, unless [`Program::stdio`] says otherwise.
    Run {
        /// Number the reply carries.
        seq: u64,
        /// What to run.
        program: Program,
    },
    /// End the program of another request, which has taken too long. There is no reply; the program's own says how it ended.
    Kill {
        /// Number of that request.
        seq: u64,
    },
}

/// Answer of the spawner, or of the monitor it made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum SpawnerReply {
    /// The monitor listens.
    Spawned {
        /// Number of the request.
        seq: u64,
        /// Its process id.
        pid: i32,
    },
    /// The program ended.
    Ran {
        /// Number of the request.
        seq: u64,
        /// Exit status, or 128 plus the signal.
        exit_code: i32,
    },
    /// There is no monitor, or no program.
    Failed {
        /// Number of the request.
        seq: u64,
        /// Why.
        failure: Failure,
    },
}
