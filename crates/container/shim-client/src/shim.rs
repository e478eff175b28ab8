//! The task service of a shim.

use std::time::Duration;

use prost::Message;

use crate::{
    Address, ShimError, Version,
    connection::{Call, Connection},
    messages::{
        Any, CloseIoRequest, ConnectResponse, CreateTaskRequest, DeleteResponse, Empty,
        ExecProcessRequest, KillRequest, Mount, PidResponse, ProcessRequest, ResizePtyRequest,
        RuntimeOptions, ShutdownRequest, StateResponse, StatsResponse, TaskStatus, Timestamp,
        UpdateTaskRequest, WaitResponse,
    },
    metrics::Metrics,
};

/// Calls that a healthy shim answers at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a shim may take to say what a container does: a daemon that starts asks for all of them.
const STATE_PATIENCE: Duration = Duration::from_secs(2);

/// What the types of the OCI, as JSON, are called.
const OCI_TYPES: &str = "types.containerd.io/opencontainers/runtime-spec/1/";

/// A container to be made.
#[derive(Debug, Clone, Default)]
pub struct NewTask {
    /// Container.
    pub id: String,
    /// Its bundle.
    pub bundle: String,
    /// What the shim mounts on its root.
    pub rootfs: Vec<Mount>,
    /// A terminal: then there is no `stderr`.
    pub terminal: bool,
    /// FIFO; empty for none.
    pub stdin: String,
    /// FIFO.
    pub stdout: String,
    /// FIFO.
    pub stderr: String,
    /// Configuration file of the shim.
    pub config_path: Option<String>,
    /// How long it may take.
    pub timeout: Duration,
}

/// A process to be run in a container.
#[derive(Debug, Clone, Default)]
pub struct NewExec {
    /// Container.
    pub id: String,
    /// Name for the process.
    pub exec_id: String,
    /// A terminal: then there is no `stderr`.
    pub terminal: bool,
    /// FIFO; empty for none.
    pub stdin: String,
    /// FIFO.
    pub stdout: String,
    /// FIFO.
    pub stderr: String,
    /// OCI process as JSON.
    pub process: Vec<u8>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskExit {
    /// Exit code, 128 + n for signal n.
    pub exit_code: i32,
    /// Unix nanoseconds; `None` when the shim does not say.
    pub finished_at: Option<i64>,
}

/// Where the input and output of a task are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskStdio {
    /// FIFO; empty for none.
    pub stdin: String,
    /// FIFO.
    pub stdout: String,
    /// FIFO; empty with a terminal.
    pub stderr: String,
    /// A terminal.
    pub terminal: bool,
}

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// It is made, runs, or is frozen.
    Alive,
    /// It has ended.
    Ended(TaskExit),
}

impl TaskExit {
    fn new(status: u32, at: Option<Timestamp>) -> Self {
        let nanoseconds = at.and_then(|at| {
            let whole = at.seconds.checked_mul(1_000_000_000)?;
            whole.checked_add(at.nanos.into())
        });
        Self {
            exit_code: i32::try_from(status).unwrap_or(i32::MAX),
            // The zero of Go's times is not a moment.
            finished_at: nanoseconds.filter(|at| *at > 0),
        }
    }

    /// What a shim that was run with `delete` printed.
    ///
    /// # Errors
    /// [`ShimError::Malformed`].
    pub fn from_delete(output: &[u8]) -> Result<Self, ShimError> {
        let method = "delete";
        let deleted = DeleteResponse::decode(output)
            .map_err(|source| ShimError::Malformed { method, source })?;
        Ok(Self::new(deleted.exit_status, deleted.exited_at))
    }
}

/// A shim that listens.
#[derive(Debug)]
pub struct Shim {
    connection: Connection,
    service: &'static str,
}

impl Shim {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or somebody that is not trusted.
    pub async fn connect(
        address: &Address,
        version: Version,
        namespace: &str,
    ) -> Result<Self, ShimError> {
        Ok(Self {
            connection: Connection::new(address.connect().await?, namespace),
            service: match version {
                Version::V2 => "containerd.task.v2.Task",
                Version::V3 => "containerd.task.v3.Task",
            },
        })
    }

    /// Returns when the shim has closed the connection.
    pub async fn ended(&self) {
        self.connection.ended().await;
    }

    /// Whether it has.
    pub fn has_ended(&self) -> bool {
        self.connection.has_ended()
    }

    async fn call<T: Message + Default>(
        &self,
        method: &'static str,
        request: &impl Message,
        timeout: Option<Duration>,
    ) -> Result<T, ShimError> {
        let payload = request.encode_to_vec();
        let call = Call {
            service: self.service,
            method,
            payload: &payload,
            timeout,
        };
        let answer = self.connection.call(call).await?;
        T::decode(answer.as_slice()).map_err(|source| ShimError::Malformed { method, source })
    }

    async fn order(&self, method: &'static str, request: &impl Message) -> Result<(), ShimError> {
        self.call::<Empty>(method, request, Some(PATIENCE))
            .await
            .map(drop)
    }

    /// Makes a container and returns the process that stands for its first one.
    ///
    /// # Errors
    /// The shim's own words, among others.
    pub async fn create(&self, task: NewTask) -> Result<i32, ShimError> {
        let options = task.config_path.map(|config_path| Any {
            type_url: "runtimeoptions.v1.Options".to_owned(),
            value: RuntimeOptions { config_path }.encode_to_vec(),
        });
        let request = CreateTaskRequest {
            id: task.id,
            bundle: task.bundle,
            rootfs: task.rootfs,
            terminal: task.terminal,
            stdin: task.stdin,
            stdout: task.stdout,
            stderr: task.stderr,
            options,
        };
        let made: PidResponse = self.call("Create", &request, Some(task.timeout)).await?;
        Ok(i32::try_from(made.pid).unwrap_or(0))
    }

    /// Runs a container's first process, or one that [`Self::exec`] prepared.
    ///
    /// # Errors
    /// The shim's own words, among others.
    pub async fn start(
        &self,
        id: &str,
        exec_id: &str,
        timeout: Duration,
    ) -> Result<i32, ShimError> {
        let started: PidResponse = self
            .call("Start", &process(id, exec_id), Some(timeout))
            .await?;
        Ok(i32::try_from(started.pid).unwrap_or(0))
    }

    /// What a container does.
    ///
    /// # Errors
    /// [`ShimError::is_not_found`], among others.
    pub async fn state(&self, id: &str) -> Result<TaskState, ShimError> {
        let state = self.full_state(id).await?;
        Ok(match state.status() {
            TaskStatus::Stopped => {
                TaskState::Ended(TaskExit::new(state.exit_status, state.exited_at))
            }
            _ => TaskState::Alive,
        })
    }

    /// Where the FIFOs of a container are.
    ///
    /// # Errors
    /// [`ShimError::is_not_found`], among others.
    pub async fn stdio(&self, id: &str) -> Result<TaskStdio, ShimError> {
        let state = self.full_state(id).await?;
        Ok(TaskStdio {
            stdin: state.stdin,
            stdout: state.stdout,
            stderr: state.stderr,
            terminal: state.terminal,
        })
    }

    async fn full_state(&self, id: &str) -> Result<StateResponse, ShimError> {
        self.call("State", &process(id, ""), Some(STATE_PATIENCE))
            .await
    }

    /// Waits for the end of a process, for ever.
    ///
    /// # Errors
    /// [`ShimError::is_not_found`], among others.
    pub async fn wait(&self, id: &str, exec_id: &str) -> Result<TaskExit, ShimError> {
        let ended: WaitResponse = self.call("Wait", &process(id, exec_id), None).await?;
        Ok(TaskExit::new(ended.exit_status, ended.exited_at))
    }

    /// Sends a signal to a process, or to all of a container.
    ///
    /// # Errors
    /// [`ShimError::is_not_found`], among others.
    pub async fn kill(
        &self,
        id: &str,
        exec_id: &str,
        signal: i32,
        all: bool,
    ) -> Result<(), ShimError> {
        let request = KillRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            signal: signal.unsigned_abs(),
            all,
        };
        self.order("Kill", &request).await
    }

    /// Forgets a process that has ended.
    ///
    /// # Errors
    /// [`ShimError::is_not_found`], or it still runs.
    pub async fn delete(&self, id: &str, exec_id: &str) -> Result<TaskExit, ShimError> {
        let deleted: DeleteResponse = self
            .call("Delete", &process(id, exec_id), Some(PATIENCE))
            .await?;
        Ok(TaskExit::new(deleted.exit_status, deleted.exited_at))
    }

    /// Prepares a process in a container; [`Self::start`] runs it.
    ///
    /// # Errors
    /// The shim's own words, among others.
    pub async fn exec(&self, exec: NewExec) -> Result<(), ShimError> {
        let request = ExecProcessRequest {
            id: exec.id,
            exec_id: exec.exec_id,
            terminal: exec.terminal,
            stdin: exec.stdin,
            stdout: exec.stdout,
            stderr: exec.stderr,
            spec: Some(Any {
                type_url: format!("{OCI_TYPES}Process"),
                value: exec.process,
            }),
        };
        self.order("Exec", &request).await
    }

    /// Changes the size of a terminal.
    ///
    /// # Errors
    /// No such process, or it has no terminal.
    pub async fn resize(
        &self,
        id: &str,
        exec_id: &str,
        width: u16,
        height: u16,
    ) -> Result<(), ShimError> {
        let request = ResizePtyRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            width: width.into(),
            height: height.into(),
        };
        self.order("ResizePty", &request).await
    }

    /// Ends a process's input, once it has read what is in the FIFO.
    ///
    /// # Errors
    /// No such process.
    pub async fn close_stdin(&self, id: &str, exec_id: &str) -> Result<(), ShimError> {
        let request = CloseIoRequest {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
            stdin: true,
        };
        self.order("CloseIO", &request).await
    }

    /// Freezes a container.
    ///
    /// # Errors
    /// The shim's own words, among others.
    pub async fn pause(&self, id: &str) -> Result<(), ShimError> {
        self.order("Pause", &process(id, "")).await
    }

    /// Thaws a container.
    ///
    /// # Errors
    /// The shim's own words, among others.
    pub async fn resume(&self, id: &str) -> Result<(), ShimError> {
        self.order("Resume", &process(id, "")).await
    }

    /// Changes a container's limits; `resources` is the OCI JSON.
    ///
    /// # Errors
    /// The shim's own words, among others.
    pub async fn update(&self, id: &str, resources: Vec<u8>) -> Result<(), ShimError> {
        let request = UpdateTaskRequest {
            id: id.to_owned(),
            resources: Some(Any {
                type_url: format!("{OCI_TYPES}LinuxResources"),
                value: resources,
            }),
        };
        self.order("Update", &request).await
    }

    /// What a container uses; `None` when the shim says nothing of it, or nothing we understand.
    ///
    /// # Errors
    /// [`ShimError::is_not_found`], among others.
    pub async fn stats(&self, id: &str, timeout: Duration) -> Result<Option<Metrics>, ShimError> {
        let answer: StatsResponse = self.call("Stats", &process(id, ""), Some(timeout)).await?;
        let parsed = answer.stats.as_ref().map(Metrics::parse).transpose();
        let method = "Stats";
        Ok(parsed
            .map_err(|source| ShimError::Malformed { method, source })?
            .flatten())
    }

    /// The shim's own process id, 0 if it does not say.
    ///
    /// # Errors
    /// [`ShimError::is_not_found`], among others.
    pub async fn pid(&self, id: &str) -> Result<i32, ShimError> {
        let connected: ConnectResponse = self
            .call("Connect", &process(id, ""), Some(PATIENCE))
            .await?;
        Ok(i32::try_from(connected.shim_pid).unwrap_or(0))
    }

    /// Lets the shim end, if it has nothing left to serve.
    ///
    /// # Errors
    /// Gone is what it should be afterwards.
    pub async fn shutdown(&self, id: &str) -> Result<(), ShimError> {
        let request = ShutdownRequest {
            id: id.to_owned(),
            now: false,
        };
        self.order("Shutdown", &request).await
    }
}

fn process(id: &str, exec_id: &str) -> ProcessRequest {
    ProcessRequest {
        id: id.to_owned(),
        exec_id: exec_id.to_owned(),
    }
}
