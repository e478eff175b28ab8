//! What the daemon, the spawner and the monitors say to each other.
//!
//! One JSON message per packet of a `SOCK_SEQPACKET` unix socket, descriptors beside it as `SCM_RIGHTS`. A monitor
//! outlives the daemon that started it, so a newer daemon meets older monitors: the first request is always
//! [`Request::Hello`], unknown fields are ignored, and fields added later must have defaults. The frames are pinned by
//! golden files.
//!
//! This crate knows bytes and meanings, no sockets.

#![forbid(unsafe_code)]

mod codec;
mod container;
mod event;
mod exec;
mod failure;
mod kept;
mod request;
mod spawner;

pub use codec::{CodecError, MAX_PACKET, decode, encode};
pub use container::{
    Checkpoint, ContainerLog, CreateContainer, RestoreContainer, RuntimeCommand, StdinMode,
    StdioMode,
};
pub use event::{ContainerReport, Event, ExitReport};
pub use exec::{ExecRequest, ExecStdio, ForeignContainer};
pub use failure::{Failure, FailureKind};
pub use kept::KeepStdio;
pub use request::{ClientFrame, Reply, Request, ServerFrame};
pub use spawner::{MonitorCgroup, MonitorConfig, Program, SpawnerReply, SpawnerRequest};

/// Version of the protocol this build speaks. A monitor answers any client whose version is not below
/// [`OLDEST_VERSION`].
pub const VERSION: u32 = 1;

/// The oldest version still understood.
pub const OLDEST_VERSION: u32 = 1;

/// Number of reports in one [`Reply::Containers`]; keeps the packet far below [`MAX_PACKET`].
pub const REPORTS_PER_PAGE: usize = 64;
