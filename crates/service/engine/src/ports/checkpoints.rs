//! Checkpoints of containers: where they are collected, and the archive they become.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use crioxide_names::{ContainerId, ImageId};
use crioxide_node_records::go_time::Moment;
use oci_spec::runtime::Spec;

use super::{PortResult, RecordDirs};

/// Whether checkpoints are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CheckpointSupport {
    /// The configuration says no, or criu is not there.
    #[default]
    None,
    /// They are, and nothing is restored.
    Checkpoint,
    /// They are, and containers are restored from them.
    Restore,
}

/// Where a checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckpointSource {
    /// An archive of the node.
    Archive(PathBuf),
    /// An image of the store.
    Image(ImageId),
}

/// What is read of a checkpoint before anything is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointOrigin {
    /// Id of the image that the container had.
    pub image_id: String,
    /// Name of that image.
    pub image_name: String,
    /// When it was taken, as it says itself.
    pub taken: Moment,
    /// All places where something was mounted.
    pub mounted: Vec<PathBuf>,
}

/// A container that a checkpoint is brought into.
#[derive(Debug, Clone)]
pub struct CheckpointTarget {
    /// Its directories.
    pub dirs: RecordDirs,
    /// Its root as the host sees it.
    pub root: PathBuf,
    /// Its OCI spec.
    pub spec: Arc<Spec>,
    /// Its log, which does not exist yet.
    pub log_path: PathBuf,
}

/// What processes are restored from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreFiles {
    /// The directory with their images.
    pub images: PathBuf,
    /// An existing directory that gets the log.
    pub work: PathBuf,
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
    /// Reads whose checkpoint it is.
    async fn describe(&self, source: &CheckpointSource) -> PortResult<CheckpointOrigin>;
    /// Brings the changes of the root, the log and the state of the processes into a container: nothing but that, and
    /// only as far as the container's own spec gives what they ask for.
    async fn import(&self, source: &CheckpointSource, target: CheckpointTarget) -> PortResult<()>;
    /// Where the state of processes is that was imported.
    fn imported(&self, dirs: &RecordDirs) -> RestoreFiles;
    /// Removes that; not being there is no error.
    async fn forget(&self, dirs: &RecordDirs) -> PortResult<()>;
}
