//! Records and root filesystems of pods and containers in the store.

use std::path::PathBuf;

use async_trait::async_trait;
use crioxide_names::{ContainerId, ImageId};
use crioxide_node_records::StorageMetadata;
use crioxide_runtime_spec::namespaces::UserNamespaceSource;

use super::{Labels, Ownership, PortResult};

/// Where a record keeps its files.
#[derive(Debug, Clone)]
pub struct RecordDirs {
    /// Survives a reboot: config.json, state.json and markers.
    pub persistent: PathBuf,
    /// Gone after a reboot; the OCI bundle.
    pub run: PathBuf,
}

/// A pod or container to be recorded.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// Id; a pod's is also that of its infra container.
    pub id: ContainerId,
    /// Names, unique in the store.
    pub names: Vec<String>,
    /// Image whose top layer is the parent of the read-write layer; none for a pod without one.
    pub image: Option<ImageId>,
    /// CRI-O's own part of the record.
    pub metadata: StorageMetadata,
    /// The pod's user namespace.
    pub user: Option<UserNamespaceSource>,
    /// SELinux labels.
    pub labels: Labels,
}

/// An image to be mounted into a container.
#[derive(Debug, Clone)]
pub struct ImageMount {
    /// The image.
    pub image: ImageId,
    /// What of it, relative to its root; empty for all.
    pub sub_path: String,
    /// The pod's user namespace.
    pub user: Option<UserNamespaceSource>,
    /// SELinux label of the files.
    pub label: String,
}

/// A record found in the store at start.
#[derive(Debug, Clone)]
pub struct StoredRecord {
    /// Id.
    pub id: ContainerId,
    /// CRI-O's own part of the record.
    pub metadata: StorageMetadata,
    /// Image id, empty for none.
    pub image: String,
    /// Files.
    pub dirs: RecordDirs,
    /// Content of config.json, if there is one.
    pub config: Option<Vec<u8>>,
    /// Content of state.json, if there is one.
    pub state: Option<Vec<u8>>,
    /// `stopped` marker.
    pub stopped: bool,
    /// `network-stopped` marker.
    pub network_stopped: bool,
    /// A checkpoint of it was being taken when the daemon ended.
    pub checkpointing: bool,
    /// The state of processes was imported into it, and they were not restored to the end.
    pub restoring: bool,
}

/// Empty files beside config.json that say what has been done already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// StopPodSandbox finished.
    Stopped,
    /// The pod's network was given back.
    NetworkStopped,
}

/// A root filesystem that is mounted.
#[derive(Debug)]
pub struct MountedRoot {
    /// Where it is.
    pub path: PathBuf,
    /// Until this is dropped, nobody takes away what the mount lies in. A container that exists does not need the path.
    pub hold: Option<Box<dyn std::any::Any + Send + Sync>>,
}

/// The store's container records.
#[async_trait]
pub trait Records: Send + Sync {
    /// Adds a record with its read-write layer.
    async fn create(&self, record: NewRecord) -> PortResult<RecordDirs>;
    /// Mounts the read-write layer and returns the root filesystem.
    async fn mount(
        &self,
        id: &ContainerId,
        user: Option<UserNamespaceSource>,
        label: &str,
    ) -> PortResult<MountedRoot>;
    /// Unmounts it; not being mounted is no error.
    async fn unmount(&self, id: &ContainerId) -> PortResult<()>;
    /// Mounts an image read-only for a container, as its `number`th one, and returns where. With `sub_path`: the place of
    /// that in it, looked up inside the image.
    async fn mount_image(
        &self,
        dirs: &RecordDirs,
        number: usize,
        image: &ImageMount,
    ) -> PortResult<PathBuf>;
    /// Unmounts all of them; none being mounted is no error.
    async fn unmount_images(&self, dirs: &RecordDirs) -> PortResult<()>;
    /// Makes a directory for a volume of a container, as its `number`th one; it goes with the record.
    async fn make_volume(
        &self,
        dirs: &RecordDirs,
        number: usize,
        ownership: Ownership,
    ) -> PortResult<PathBuf>;
    /// Lets the other users of the node pass through the directories above a container's root. Runtimes other than ours
    /// look it up as root of the container's user namespace.
    async fn open_the_way(&self, rootfs: &std::path::Path) -> PortResult<()>;
    /// Removes record, layer and directories; not being there is no error.
    async fn remove(&self, id: &ContainerId) -> PortResult<()>;
    /// Writes config.json to both directories.
    async fn save_config(&self, dirs: &RecordDirs, json: Vec<u8>) -> PortResult<()>;
    /// Replaces state.json.
    async fn save_state(&self, dirs: &RecordDirs, json: String) -> PortResult<()>;
    /// Sets a marker.
    async fn mark(&self, dirs: &RecordDirs, marker: Marker) -> PortResult<()>;
    /// A file of a root filesystem, looked up inside it, of at most `max` bytes; `None` if it is not there.
    async fn read_in_root(
        &self,
        rootfs: &std::path::Path,
        path: &str,
        max: u64,
    ) -> PortResult<Option<Vec<u8>>>;
    /// Writes a file of the run directory, replacing it; returns its path.
    async fn write_run_file(
        &self,
        dirs: &RecordDirs,
        name: &'static str,
        content: Vec<u8>,
        ownership: Ownership,
    ) -> PortResult<PathBuf>;
    /// All records that are CRI-O's.
    async fn load(&self) -> PortResult<Vec<StoredRecord>>;
}
