//! The OCI runtime port: what the rest of the daemon may ask of a low-level runtime once a container exists.
//!
//! Creating a container and running a process inside one are not part of the port: both need the stdio of the
//! caller and a parent that reaps the child, so they belong to the monitor. Everything else (start, kill, delete,
//! state, pause, resume, update) works from any process and is the same for the built-in runtime and for runc, crun
//! and their relatives, which [`CommandRuntime`] drives by their command line.
//!
//! All calls block; callers on an async runtime use a blocking pool.

#![forbid(unsafe_code)]

mod checkpoint;
mod command;
mod error;
mod state;

pub use checkpoint::CheckpointRequest;
pub use command::{CgroupDriver, CommandRuntime, CommandTimeouts};
pub use error::RuntimeError;
pub use state::{ContainerStatus, RuntimeState};

use oci_spec::runtime::{Features, LinuxResources};

/// Which processes a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillScope {
    /// The container's first process only.
    Init,
    /// Every process in the container's cgroup.
    All,
}

/// Whether a delete may end a container that still runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteMode {
    /// Refuse unless the container has stopped.
    Stopped,
    /// Kill whatever still runs first; an unknown container is not an error.
    Force,
}

/// A low-level runtime that knows containers by their id.
pub trait OciRuntime: Send + Sync {
    /// Runs the user's process of a created container.
    fn start(&self, id: &str) -> Result<(), RuntimeError>;

    /// Sends the signal with the number `signal`.
    fn kill(&self, id: &str, signal: i32, scope: KillScope) -> Result<(), RuntimeError>;

    /// Gives back everything the runtime holds for the container.
    fn delete(&self, id: &str, mode: DeleteMode) -> Result<(), RuntimeError>;

    /// The container's present state; [`RuntimeError::NotFound`] when the runtime does not know it.
    fn state(&self, id: &str) -> Result<RuntimeState, RuntimeError>;

    /// Freezes all processes of the container.
    fn pause(&self, id: &str) -> Result<(), RuntimeError>;

    /// Thaws a paused container.
    fn resume(&self, id: &str) -> Result<(), RuntimeError>;

    /// Changes the limits that `resources` names and leaves the others alone.
    fn update(&self, id: &str, resources: &LinuxResources) -> Result<(), RuntimeError>;

    /// Writes the state of the container's processes into files, and lets them go on. They may be frozen, and stay so.
    fn checkpoint(&self, id: &str, request: &CheckpointRequest) -> Result<(), RuntimeError>;

    /// What the runtime supports, as the OCI `features` document.
    fn features(&self) -> Result<Features, RuntimeError>;

    /// The runtime's name and version in one line, for status output.
    fn version(&self) -> Result<String, RuntimeError>;
}
