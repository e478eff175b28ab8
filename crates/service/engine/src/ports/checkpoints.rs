//! Checkpoints of containers: where they are collected, and the archive they become.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use crioxide_names::ContainerId;

use super::{PortResult, RecordDirs};

/// Whether checkpoints are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CheckpointSupport {
    /// The configuration says no, or criu is not there.
    #[default]
    None,
    /// They are.
    Checkpoint,
}

/// What goes into a checkpoint beside the processes.
#[derive(Debug, Clone)]
pub struct CheckpointContent {
    /// `config.dump`: whose checkpoint it is.
    pub config: Vec<u8>,
    /// `spec.dump`: the container's OCI spec.
    pub spec: Vec<u8>,
    /// Bind mounts: source and destination.
    pub bind_mounts: Vec<(PathBuf, PathBuf)>,
    /// All places where something is mounted in the container: what lies there is none of its changes.
    pub mounted: Vec<PathBuf>,
    /// The container's root as the host sees it.
    pub root: PathBuf,
    /// Its log.
    pub log_path: PathBuf,
}

/// The files of checkpoints.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// Makes the empty directory in which a container's checkpoint is collected. It tells the next start of the daemon that
    /// the container may be frozen.
    async fn begin(&self, dirs: &RecordDirs) -> PortResult<PathBuf>;
    /// Adds what the container changed in its root, and the content given. The container does not run meanwhile.
    async fn collect(
        &self,
        id: &ContainerId,
        work: &Path,
        content: CheckpointContent,
    ) -> PortResult<()>;
    /// Makes what was collected the archive at `location`, which is there whole or not at all.
    async fn export(&self, work: &Path, location: &Path) -> PortResult<()>;
    /// Removes what was collected; not being there is no error.
    async fn end(&self, dirs: &RecordDirs) -> PortResult<()>;
}
