//! What a pod sandbox takes from the host besides its network: namespaces, files, mounts, cgroups.

use std::{collections::BTreeMap, path::PathBuf};

use async_trait::async_trait;
use crioxide_cri_api::v1;
use crioxide_names::PodId;
use crioxide_runtime_spec::{
    Confinement, Devices, mounts::volumes::VolumeSource, namespaces::UserNamespaceSource,
};
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
    /// Own user namespace, to which all the others belong.
    pub user: Option<UserNamespaceSource>,
    /// Sysctls to set inside, already checked to be namespaced.
    pub sysctls: Vec<(String, String)>,
    /// Host name, for an own UTS namespace.
    pub hostname: String,
}

/// Who a file is to belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id of the node.
    pub uid: u32,
    /// Group id of the node.
    pub gid: u32,
}

/// How a file is to look to the processes of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ownership {
    /// Root of the pod's user namespace, if it has one.
    pub owner: Option<Owner>,
    /// SELinux label; empty without.
    pub label: String,
}

/// SELinux labels of a pod or container; empty where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// Of its processes.
    pub process: String,
    /// Of its files.
    pub mount: String,
}

/// What SELinux labels depend on.
#[derive(Debug, Clone, Default)]
pub struct LabelRequest {
    /// Parts that the request names.
    pub options: Option<v1::SeLinuxOption>,
    /// Namespaces, some of which cannot be shared across labels.
    pub namespaces: Option<v1::NamespaceOption>,
    /// Nearly unconfined.
    pub privileged: bool,
    /// A shim runs it: its process on the node is a virtual machine's.
    pub virtual_machine: bool,
    /// For a container: the labels of its pod. A pod gets categories of its own.
    pub pod: Option<Labels>,
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
    /// How they look.
    pub ownership: Ownership,
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
    /// The annotation that asks for more, among those that the configuration allows.
    pub annotated: String,
    /// Who is to own them, where the configuration says so.
    pub user: Option<u32>,
    /// Which group is to own them.
    pub group: Option<u32>,
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
    async fn create_pause_root(
        &self,
        dirs: &RecordDirs,
        owner: Option<Owner>,
    ) -> PortResult<PathBuf>;
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
    /// Refuses a root whose /dev, /proc or /sys is a link, which runtimes other than ours may follow on the host.
    async fn check_root(&self, rootfs: &std::path::Path) -> PortResult<()>;
    /// Makes directories inside a root filesystem where they are missing: image volumes, the working directory.
    async fn create_in_root(
        &self,
        rootfs: &std::path::Path,
        directories: Vec<String>,
        owner: Option<Owner>,
    ) -> PortResult<()>;
    /// SELinux labels; those of a pod are to be released.
    async fn labels(&self, request: LabelRequest) -> PortResult<Labels>;
    /// Counts the label of a pod of before a restart.
    fn keep_label(&self, mount_label: &str);
    /// Gives back what `labels` or `keep_label` took.
    fn release_label(&self, mount_label: &str);
    /// Labels everything of a volume.
    async fn relabel(&self, volume: &std::path::Path, label: &str) -> PortResult<()>;
    /// Profiles for a process.
    async fn confinement(&self, request: ConfinementRequest) -> PortResult<Confinement>;
    /// Devices for a container.
    async fn devices(&self, request: DevicesRequest) -> PortResult<Devices>;
    /// The administrator's hooks for a container.
    async fn hooks(&self, request: HooksRequest) -> PortResult<Option<oci_spec::runtime::Hooks>>;
}
