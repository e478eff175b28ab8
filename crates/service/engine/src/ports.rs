//! The engine's ports: everything it needs from the host, as narrow traits that the daemon implements.
//!
//! A port's error is opaque to the engine (but for [`Interrupted`]), which adds what it was doing and hands the text on.

mod backend;
mod checkpoints;
mod detail;
mod host;
mod images;
mod network;
mod records;
mod runtime_name;
mod sessions;
mod stats;

use std::sync::Arc;

pub use backend::{
    Adoption, Backend, CheckpointProcess, ContainerProcess, CreateProcess, ExecOutput, ExecProcess,
    ExitReport, KillScope, MonitorReport, PodHome, ProcessId, RestoreProcess,
};
pub use checkpoints::{
    CheckpointContent, CheckpointOrigin, CheckpointSource, CheckpointSupport, CheckpointTarget,
    Checkpoints, RestoreFiles,
};
pub use detail::{CpuDetail, DeviceIo, Disk, HugePages, MemoryDetail, ProcessDetail, StatsDetail};
pub use host::{
    ConfinementRequest, DevicesRequest, HooksRequest, LabelRequest, Labels, MissingSource,
    NamespacePaths, NamespaceRequest, Owner, Ownership, SandboxFiles, SandboxHost, SandboxPaths,
};
pub use images::{ImageService, ImageStatus, PullRequest, ResolvedArtifact, ResolvedImage};
pub use network::{Network, NetworkResult, PodNetwork};
pub use records::{ImageMount, Marker, MountedRoot, NewRecord, RecordDirs, Records, StoredRecord};
pub use runtime_name::{handler_and_program, runtime_name};
pub use sessions::{
    AttachSession, ExecSession, OutputStream, PortConnection, Session, SessionEnd, SessionInput,
    SessionOutput, SessionTerminal, TerminalSize,
};
pub use stats::{
    CgroupName, CgroupStats, InterfaceStats, NetworkStats, Pressure, Stalled, Stats, StatsReading,
    StatsTarget, Traffic, Usage,
};

/// Why a port could not do it.
pub type PortError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Who was to do it died before it answered: it may have been done, in part or not at all, and can be asked for again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Interrupted(pub String);

/// What a port answers.
pub type PortResult<T> = Result<T, PortError>;

/// All ports together.
#[derive(Clone)]
pub struct Ports {
    /// Images.
    pub images: Arc<dyn ImageService>,
    /// Records and root filesystems of pods and containers.
    pub records: Arc<dyn Records>,
    /// Pod networks.
    pub network: Arc<dyn Network>,
    /// Namespaces, files and cgroups of pods.
    pub host: Arc<dyn SandboxHost>,
    /// Processes: monitors and runtimes.
    pub backend: Arc<dyn Backend>,
    /// Files of checkpoints.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// Resource usage.
    pub stats: Arc<dyn Stats>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ports")
    }
}
