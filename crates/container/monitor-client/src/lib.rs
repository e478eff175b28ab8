//! The daemon's side of spawner and monitors, on tokio.
//!
//! [`Spawner`] starts monitors; [`Monitor`] is a connection to one. Requests of many tasks share the connection and are
//! told apart by numbers. What happens to containers comes as [`MonitorEvent`]s, in order; an exec's end goes to its
//! [`ExecHandle`].

#![forbid(unsafe_code)]

mod attach;
pub mod conmon;
mod connection;
mod error;
mod exec;
mod monitor;
mod spawner;

pub use attach::AttachConnection;
pub use crioxide_monitor_protocol::{
    Checkpoint, ContainerLog, ContainerReport, CreateContainer, ExitReport, Failure, FailureKind,
    ForeignContainer, KeepStdio, MonitorCgroup, MonitorConfig, Program, RestoreContainer,
    RuntimeCommand, StdinMode, StdioMode,
};
pub use error::MonitorError;
pub use exec::{ExecDescriptors, ExecHandle, ExecTarget};
pub use monitor::{Connected, Created, Monitor, MonitorEvent};
pub use spawner::Spawner;
