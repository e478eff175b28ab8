//! What a pod sandbox takes from the host besides its network: namespaces, files, mounts, cgroups.

use std::{collections::BTreeMap, path::PathBuf};

use async_trait::async_trait;
use crioxide_cri_api::v1;
use crioxide_names::PodId;
use crioxide_runtime_spec::{Confinement, Devices, mounts::volumes::VolumeSource};
use oci_spec::runtime::Capability;

use super::{PortResult, RecordDirs};

/// Namespaces to make for a pod; what is not asked for is the host's.
#[derive(Debug, Clone, Default)]
pub struct NamespaceRequest {
    /// Own network namespace.
    pub net: bool,
    /// Own IPC namespace.
    pub ipc: bool,
    /// Own UTS namespace.
    pub uts: bool,
    /// Sysctls to set inside, already checked to be namespaced.
    pub sysctls: Vec<(String, String)>,
    /// Host name, for an own UTS namespace.
    pub hostname: String,
}

/// Pinned namespaces, as paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespacePaths {
    /// Network namespace; for host-network pods a pin of the host's.
    pub net: Option<PathBuf>,
    /// IPC namespace.
    pub ipc: Option<PathBuf>,
    /// UTS namespace.
    pub uts: Option<PathBuf>,
    /// User namespace.
    pub user: Option<PathBuf>,
    /// PID namespace, if the pod has one.
    pub pid: Option<PathBuf>,
}

/// Content of the files every container of a pod sees.
#[derive(Debug, Clone)]
pub struct SandboxFiles {
    /// resolv.conf; `None` copies the host's.
    pub resolv_conf: Option<String>,
    /// Host name, written with a newline.
    pub hostname: String,
    /// Size of /dev/shm in bytes; `None` if the pod uses the host's.
    pub shm_size: Option<u64>,
}

/// Where these files are.
#[derive(Debug, Clone, Default)]
pub struct SandboxPaths {
    /// resolv.conf.
    pub resolv_conf: PathBuf,
    /// hostname.
    pub hostname: PathBuf,
    /// .containerenv.
    pub containerenv: PathBuf,
    /// Mount point of the pod's /dev/shm; the host's for host IPC.
    pub shm: PathBuf,
}

/// What to do about a bind mount's source that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingSource {
    /// Make a directory.
    Create,
    /// Fail.
    Reject,
}

/// Security fields of a request.
#[derive(Debug, Clone, Default)]
pub struct ConfinementRequest {
    /// Runtime handler, which may have its own default seccomp profile.
    pub handler: String,
    /// Nearly unconfined.
    pub privileged: bool,
    /// Seccomp profile; `None` is unconfined.
    pub seccomp: Option<v1::SecurityProfile>,
    /// AppArmor profile; `None` is the configured default.
    pub apparmor: Option<v1::SecurityProfile>,
    /// Capabilities of the process, on which the default seccomp profile depends.
    pub capabilities: Vec<Capability>,
}

/// Devices of a request.
#[derive(Debug, Clone, Default)]
pub struct DevicesRequest {
    /// Runtime handler, which may withhold the host's devices.
    pub handler: String,
    /// All of the host's.
    pub privileged: bool,
    /// Those asked for.
    pub requested: Vec<v1::Device>,
}

/// What the conditions of OCI hooks look at.
#[derive(Debug, Clone, Default)]
pub struct HooksRequest {
    /// Annotations of pod and container; the container's win.
    pub annotations: BTreeMap<String, String>,
    /// First word of the container's command.
    pub command: String,
    /// Whether the request has mounts.
    pub bind_mounts: bool,
}

/// The host side of a pod sandbox.
#[async_trait]
pub trait SandboxHost: Send + Sync {
    /// Makes and pins namespaces. On failure nothing is left.
    async fn create_namespaces(
        &self,
        pod: &PodId,
        request: &NamespaceRequest,
    ) -> PortResult<NamespacePaths>;
    /// A root filesystem that holds nothing but the program `/pause`.
    async fn create_pause_root(&self, dirs: &RecordDirs) -> PortResult<PathBuf>;
    /// Removes every pin of the pod; missing ones are no error. `known` names pins that are not ours by name.
    async fn remove_namespaces(&self, pod: &PodId, known: &NamespacePaths) -> PortResult<()>;
    /// Writes the files and mounts /dev/shm.
    async fn create_files(
        &self,
        dirs: &RecordDirs,
        files: SandboxFiles,
    ) -> PortResult<SandboxPaths>;
    /// Unmounts what `create_files` mounted.
    async fn remove_files(&self, dirs: &RecordDirs) -> PortResult<()>;
    /// Makes the pod's cgroup parent where nobody has yet, remembering that it is ours. For a pod of before a restart
    /// it remembers again.
    async fn prepare_cgroup(&self, dirs: &RecordDirs, parent: &str) -> PortResult<()>;
    /// Removes the monitor's cgroup, and the parent if `prepare_cgroup` made it and no other pod uses it.
    async fn release_cgroup(&self, dirs: &RecordDirs, parent: &str) -> PortResult<()>;
    /// Makes a directory for logs.
    async fn create_log_dir(&self, path: &str) -> PortResult<()>;
    /// The source of a bind mount, with links resolved and what the node knows about the mount it lies on.
    async fn mount_source(&self, path: &str, missing: MissingSource) -> PortResult<VolumeSource>;
    /// Makes directories inside a root filesystem where they are missing: image volumes, the working directory.
    async fn create_in_root(
        &self,
        rootfs: &std::path::Path,
        directories: Vec<String>,
    ) -> PortResult<()>;
    /// Profiles and labels for a process.
    async fn confinement(&self, request: ConfinementRequest) -> PortResult<Confinement>;
    /// Devices for a container.
    async fn devices(&self, request: DevicesRequest) -> PortResult<Devices>;
    /// The administrator's hooks for a container.
    async fn hooks(&self, request: HooksRequest) -> PortResult<Option<oci_spec::runtime::Hooks>>;
}
