//! What the backend is told by the configuration.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crioxide_cgroups::Driver;
use crioxide_monitor_client::{RuntimeCommand, conmon};
use crioxide_oci_runtime::OciRuntime;

/// How the runtime of a handler is reached.
#[derive(Clone)]
pub(crate) struct HandlerRuntime {
    /// Everything but create and exec.
    pub(crate) runtime: Arc<dyn OciRuntime>,
    /// What a monitor runs to create and exec.
    pub(crate) command: RuntimeCommand,
    /// Longest a create may take, milliseconds.
    pub(crate) create_timeout_ms: u64,
    /// Sync logs when a container ends.
    pub(crate) sync_log: bool,
    /// `monitor_cgroup`.
    pub(crate) monitor_cgroup: String,
    /// The conmon that watches each container; without it a monitor of ours watches all of a pod.
    pub(crate) conmon: Option<conmon::ConmonProgram>,
}

/// Settings of the backend.
pub(crate) struct BackendSettings {
    /// Runtimes by handler.
    pub(crate) handlers: BTreeMap<String, HandlerRuntime>,
    /// `monitor_cgroup` of the handlers that have a shim.
    pub(crate) shims: BTreeMap<String, String>,
    /// `container_exits_dir`.
    pub(crate) exits_dir: PathBuf,
    /// `container_attach_socket_dir`.
    pub(crate) attach_dir: PathBuf,
    /// Who manages cgroups.
    pub(crate) driver: Driver,
    /// `no_pivot`.
    pub(crate) no_pivot: bool,
    /// `log_size_max`.
    pub(crate) log_size_max: Option<u64>,
    /// `log_to_journald`.
    pub(crate) journal: bool,
    /// Where runtimes reach the agents of seccomp filters.
    pub(crate) filter_agents_dir: PathBuf,
    /// criu, where it is installed.
    pub(crate) criu: Option<PathBuf>,
}
