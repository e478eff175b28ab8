//! The messages, as far as they are used: ttrpc's envelope (`request.proto`) and containerd's task service
//! (`api/runtime/task/v2/shim.proto`; version 3 has the same).

use prost::Message;

/// A call.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Request {
    /// Service.
    #[prost(string, tag = "1")]
    pub service: String,
    /// Method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The method's own message.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// How long it may take, nanoseconds; 0 for ever.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    /// Headers; the namespace is one.
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<KeyValue>,
}

/// A header.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct KeyValue {
    /// Name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// The answer to a call.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Response {
    /// How it went; absent is well.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The method's own message.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Status {
    /// Code of gRPC; 0 is success.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Any {
    /// What it is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Protobuf, or JSON for the types of the OCI.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `containerd.runtime.bootstrap.v1.BootstrapParams`: what a shim reads when it is started.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BootstrapParams {
    /// Container.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// Keeps the ids of several users of one shim apart.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// -4 for more, 0 for the usual.
    #[prost(int32, tag = "3")]
    pub log_level: i32,
    /// Socket that it tells events.
    #[prost(string, tag = "5")]
    pub ttrpc_address: String,
    /// Program that it may tell events.
    #[prost(string, tag = "7")]
    pub binary: String,
}

/// `containerd.runtime.bootstrap.v1.BootstrapResult`: what it answers.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BootstrapResult {
    /// Of the task service.
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// Where it serves.
    #[prost(string, tag = "2")]
    pub address: String,
    /// `ttrpc` or `grpc`.
    #[prost(string, tag = "3")]
    pub protocol: String,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Timestamp {
    /// Unix seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// And nanoseconds.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// `google.protobuf.Empty`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Empty {}

/// A file system of a new task.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Mount {
    /// Type.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// What is mounted.
    #[prost(string, tag = "2")]
    pub source: String,
    /// Where in the root.
    #[prost(string, tag = "3")]
    pub target: String,
    /// Options as in fstab.
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

/// To `Create`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CreateTaskRequest {
    /// Container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its bundle.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// What is mounted on its root first.
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    /// A terminal.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    /// FIFO; empty for none.
    #[prost(string, tag = "5")]
    pub stdin: String,
    /// FIFO.
    #[prost(string, tag = "6")]
    pub stdout: String,
    /// FIFO; empty with a terminal.
    #[prost(string, tag = "7")]
    pub stderr: String,
    /// The shim's own options.
    #[prost(message, optional, tag = "10")]
    pub options: Option<Any>,
}

/// `runtimeoptions.v1.Options`: where a shim's configuration is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RuntimeOptions {
    /// File.
    #[prost(string, tag = "2")]
    pub config_path: String,
}

/// From `Create` and `Start`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct PidResponse {
    /// Process on the host that stands for the task's.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
}

/// To everything about one task or one process in it: `Start`, `State`, `Wait`, `Delete`. Of those about tasks only
/// (`Pause`, `Resume`, `Stats`, `Connect`, `Pids`) the second field stays empty.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ProcessRequest {
    /// Container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Empty for its first process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// From `Delete`, and what a shim that is run with `delete` prints.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct DeleteResponse {
    /// Process.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// How it ended.
    #[prost(uint32, tag = "2")]
    pub exit_status: u32,
    /// When.
    #[prost(message, optional, tag = "3")]
    pub exited_at: Option<Timestamp>,
}

/// From `Wait`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct WaitResponse {
    /// Exit code, 128 + n for signal n.
    #[prost(uint32, tag = "1")]
    pub exit_status: u32,
    /// When.
    #[prost(message, optional, tag = "2")]
    pub exited_at: Option<Timestamp>,
}

/// To `Exec`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ExecProcessRequest {
    /// Container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Name for the process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// A terminal.
    #[prost(bool, tag = "3")]
    pub terminal: bool,
    /// FIFO; empty for none.
    #[prost(string, tag = "4")]
    pub stdin: String,
    /// FIFO.
    #[prost(string, tag = "5")]
    pub stdout: String,
    /// FIFO; empty with a terminal.
    #[prost(string, tag = "6")]
    pub stderr: String,
    /// OCI process.
    #[prost(message, optional, tag = "7")]
    pub spec: Option<Any>,
}

/// To `ResizePty`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ResizePtyRequest {
    /// Container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Empty for its first process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Columns.
    #[prost(uint32, tag = "3")]
    pub width: u32,
    /// Rows.
    #[prost(uint32, tag = "4")]
    pub height: u32,
}

/// From `State`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StateResponse {
    /// Process.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// One of [`TaskStatus`].
    #[prost(enumeration = "TaskStatus", tag = "4")]
    pub status: i32,
    /// FIFO; empty for none.
    #[prost(string, tag = "5")]
    pub stdin: String,
    /// FIFO.
    #[prost(string, tag = "6")]
    pub stdout: String,
    /// FIFO; empty with a terminal.
    #[prost(string, tag = "7")]
    pub stderr: String,
    /// A terminal.
    #[prost(bool, tag = "8")]
    pub terminal: bool,
    /// How it ended.
    #[prost(uint32, tag = "9")]
    pub exit_status: u32,
    /// When.
    #[prost(message, optional, tag = "10")]
    pub exited_at: Option<Timestamp>,
}

/// `containerd.v1.types.Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum TaskStatus {
    /// Not said.
    Unknown = 0,
    /// Not started yet.
    Created = 1,
    /// Running.
    Running = 2,
    /// Ended.
    Stopped = 3,
    /// Frozen.
    Paused = 4,
    /// About to be frozen.
    Pausing = 5,
}

/// To `Kill`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct KillRequest {
    /// Container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Empty for its first process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Number.
    #[prost(uint32, tag = "3")]
    pub signal: u32,
    /// To all processes of the container.
    #[prost(bool, tag = "4")]
    pub all: bool,
}

/// To `CloseIO`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CloseIoRequest {
    /// Container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Empty for its first process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Standard input.
    #[prost(bool, tag = "3")]
    pub stdin: bool,
}

/// To `Update`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct UpdateTaskRequest {
    /// Container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// OCI resources.
    #[prost(message, optional, tag = "2")]
    pub resources: Option<Any>,
}

/// From `Stats`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StatsResponse {
    /// [`crate::metrics`].
    #[prost(message, optional, tag = "1")]
    pub stats: Option<Any>,
}

/// From `Connect`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConnectResponse {
    /// The shim itself.
    #[prost(uint32, tag = "1")]
    pub shim_pid: u32,
    /// The task's process.
    #[prost(uint32, tag = "2")]
    pub task_pid: u32,
}

/// To `Shutdown`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ShutdownRequest {
    /// Container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Without a look at what it serves.
    #[prost(bool, tag = "2")]
    pub now: bool,
}
