//! Processes: the monitors, the runtimes behind them, and what they report.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use crioxide_names::{ContainerId, PodId};

use super::{AttachSession, ExecSession, PortResult, RecordDirs, RestoreFiles, Session};

/// A process, told from later ones with the same number by its start time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProcessId {
    /// Number in the host's PID namespace.
    pub pid: i32,
    /// Field 22 of /proc/pid/stat, as text.
    pub start_time: String,
}

/// A pod as its monitors see it.
#[derive(Debug, Clone)]
pub struct PodHome {
    /// Its directories.
    pub dirs: RecordDirs,
    /// Its cgroup parent; empty when it is not known.
    pub cgroup_parent: String,
    /// Its runtime handler, which also says who watches its containers.
    pub handler: String,
}

/// What became of a pod's monitor while the daemon was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// It lives and was found again.
    Connected,
    /// The pod has none: a conmon watches each container, or nobody was needed yet.
    None,
    /// It died.
    Gone,
}

/// A container whose process is to be made.
#[derive(Debug, Clone)]
pub struct CreateProcess {
    /// Pod whose monitor owns it.
    pub pod: PodId,
    /// Id.
    pub id: ContainerId,
    /// Name, for logs.
    pub name: String,
    /// Runtime handler, as configured.
    pub handler: String,
    /// Directories; the run directory is the bundle.
    pub dirs: RecordDirs,
    /// cgroup, as the spec names it, to be watched for kills for lack of memory.
    pub cgroups_path: String,
    /// CRI log file.
    pub log_path: PathBuf,
    /// A terminal instead of pipes.
    pub terminal: bool,
    /// Standard input stays open.
    pub stdin: bool,
    /// Standard input closes when the first attached client leaves.
    pub stdin_once: bool,
}

/// A container whose processes are to be restored from a checkpoint.
#[derive(Debug, Clone)]
pub struct RestoreProcess {
    /// The container.
    pub container: CreateProcess,
    /// The processes.
    pub files: RestoreFiles,
}

/// A created container's process.
#[derive(Debug, Clone)]
pub struct ContainerProcess {
    /// Its init.
    pub init: ProcessId,
    /// The monitor that owns it.
    pub monitor: ProcessId,
}

/// A checkpoint of a container's processes to be taken.
#[derive(Debug, Clone)]
pub struct CheckpointProcess {
    /// Existing directory that gets the images.
    pub images: PathBuf,
    /// Existing directory that gets the log.
    pub work: PathBuf,
    /// How long it may take.
    pub timeout: Duration,
}

/// Which processes of a container a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillScope {
    /// Its init.
    Init,
    /// All processes of its cgroup.
    All,
}

/// A process to run in a container, to the end.
#[derive(Debug, Clone)]
pub struct ExecProcess {
    /// Pod.
    pub pod: PodId,
    /// Container.
    pub id: ContainerId,
    /// Runtime handler.
    pub handler: String,
    /// Directories of the container.
    pub dirs: RecordDirs,
    /// OCI process as JSON.
    pub process: Vec<u8>,
    /// Ends the process; `None` waits for ever.
    pub timeout: Option<Duration>,
    /// Bytes of output kept, both streams together.
    pub output_limit: usize,
}

/// How it went.
#[derive(Debug, Clone)]
pub enum ExecOutput {
    /// It ended by itself.
    Done {
        /// Standard output.
        stdout: Vec<u8>,
        /// Standard error.
        stderr: Vec<u8>,
        /// Exit code, 128 + n for signal n.
        exit_code: i32,
    },
    /// It was killed at its deadline.
    TimedOut,
}

/// The end of a container's process.
#[derive(Debug, Clone)]
pub struct ExitReport {
    /// Container, or the pod's own id for its pause process.
    pub id: ContainerId,
    /// Exit code, 128 + n for signal n; `None` if nobody saw it.
    pub exit_code: Option<i32>,
    /// The kernel's memory killer was at work.
    pub oom_killed: bool,
    /// Unix nanoseconds.
    pub finished_at: i64,
}

/// What is known of a container's process after the daemon was away.
#[derive(Debug, Clone)]
pub enum MonitorReport {
    /// It runs, or waits to be started.
    Alive {
        /// Its monitor still watches it.
        monitored: bool,
    },
    /// It ended.
    Exited(ExitReport),
    /// There is no trace of it.
    Lost,
}

/// Monitors and runtimes.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Starts the pod's monitor, where its handler wants one for the pod.
    async fn start_monitor(&self, pod: &PodId, home: &PodHome) -> PortResult<()>;
    /// Ends the pod's monitor; not being there is no error.
    async fn stop_monitor(&self, pod: &PodId) -> PortResult<()>;
    /// Ends the pod's monitor, and forgets what [`Self::start_monitor`] or [`Self::adopt_monitor`] was told of the pod.
    async fn forget_pod(&self, pod: &PodId) -> PortResult<()>;
    /// Finds the monitor of a pod again.
    async fn adopt_monitor(&self, pod: &PodId, home: &PodHome) -> PortResult<Adoption>;
    /// Makes a container, ready to be started.
    async fn create(&self, request: &CreateProcess) -> PortResult<ContainerProcess>;
    /// Makes a container of a checkpoint. It runs.
    async fn restore(&self, request: &RestoreProcess) -> PortResult<ContainerProcess>;
    /// Runs the user's process.
    async fn start(&self, handler: &str, id: &ContainerId) -> PortResult<()>;
    /// Sends a signal, past a runtime that does not do it: `init` is the process.
    async fn kill(
        &self,
        handler: &str,
        id: &ContainerId,
        init: &ProcessId,
        signal: i32,
        scope: KillScope,
    ) -> PortResult<()>;
    /// What a process does that does not end, in words; `None` when there is no such process.
    async fn describe(&self, process: &ProcessId) -> Option<String>;
    /// Freezes or thaws all processes of a container.
    async fn set_paused(&self, handler: &str, id: &ContainerId, paused: bool) -> PortResult<()>;
    /// Writes down the state of a container's processes, which live on.
    async fn checkpoint(
        &self,
        handler: &str,
        id: &ContainerId,
        request: CheckpointProcess,
    ) -> PortResult<()>;
    /// Gives back what runtime and monitor hold for a container, killing what still runs.
    async fn delete(
        &self,
        pod: &PodId,
        handler: &str,
        id: &ContainerId,
        dirs: &RecordDirs,
    ) -> PortResult<()>;
    /// Runs a process in a container.
    async fn exec(&self, request: ExecProcess) -> PortResult<ExecOutput>;
    /// Runs a process in a container for a client that streams.
    async fn exec_session(&self, request: ExecSession) -> PortResult<Session>;
    /// Attaches to a container's own process.
    async fn attach_session(&self, request: AttachSession) -> PortResult<Session>;
    /// Opens the log file anew.
    async fn reopen_log(
        &self,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
        log_path: &Path,
    ) -> PortResult<()>;
    /// Listens for the system calls that a container's seccomp filter holds up, from now on and until
    /// [`Self::ignore_held_calls`]; each is refused and told. The answer is the socket that the
    /// runtime hands the filter to.
    async fn hear_held_calls(&self, id: &ContainerId) -> PortResult<PathBuf>;
    /// Ends that, if there was such; calls that are held up fail.
    async fn ignore_held_calls(&self, id: &ContainerId) -> PortResult<()>;
    /// Changes limits; `resources` is the OCI JSON.
    async fn update(&self, handler: &str, id: &ContainerId, resources: Vec<u8>) -> PortResult<()>;
    /// What became of a container while nobody looked; `init` is what state.json says.
    async fn inspect(
        &self,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
        init: &ProcessId,
    ) -> PortResult<MonitorReport>;
}
