//! `[crio.runtime.runtimes.<handler>]`

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::value::choice::HandlerType;

/// The `runtime_path` that names the built-in runtime.
pub(crate) const BUILTIN_RUNTIME: &str = "builtin";

/// Which program a handler runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeBinary {
    /// The OCI runtime inside this program.
    Builtin,
    /// The program at this path.
    Path(PathBuf),
    /// The program of this name, looked up in `$PATH`.
    Search(String),
}

option_table! {
    /// `[crio.runtime.runtimes.<handler>]`: one OCI runtime and how it is used.
    pub struct RuntimeHandler for RuntimeHandler, at [] in "runtime" {
        /// Absolute path of the runtime. Empty looks up the handler's name in $PATH;
        /// "builtin" is the runtime inside this program.
        runtime_path: String = Text("") => .file_only();
        /// oci (one monitor per container), pod (one monitor per pod) or vm (a containerd shim v2).
        runtime_type: HandlerType = Text("oci") => .file_only();
        /// State directory of the runtime.
        runtime_root: PathBuf = Text("/run/crun") => .file_only();
        /// Configuration file of the runtime, for the type vm only.
        runtime_config_path: Option<PathBuf> = Text("") => .file_only();
        /// Take path, type, root and configuration from the default handler.
        inherit_default_runtime: bool = Bool(false) => .file_only();
        /// Containers that ask for less memory are refused.
        container_min_memory: String = Text("12 MiB") => .file_only();
        /// Path of the conmon program. Empty or "builtin" is the monitor inside this program.
        monitor_path: Option<PathBuf> = Text("") => .file_only();
        /// Where monitors are put: pod, or with the systemd driver a slice.
        monitor_cgroup: String = Text("") => .file_only();
        /// "container" puts the monitors of exec sessions into the container's cgroup.
        monitor_exec_cgroup: String = Text("") => .file_only();
        /// Environment of the monitor.
        monitor_env: Vec<String> = List(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"])
            => .file_only();
        /// Annotations that pods of this handler may use.
        allowed_annotations: Vec<String> = List(&[]) => .file_only().deprecated("workloads");
        /// Do not give privileged containers the host's devices.
        privileged_without_host_devices: bool = Bool(false) => .file_only();
        /// Runtime paths by platform, as "os/arch" = "path".
        platform_runtime_paths: BTreeMap<String, String> = EmptyMap => .file_only();
        /// The virtual machine pulls images itself, for the type vm only.
        runtime_pull_image: bool = Bool(false) => .file_only();
        /// Do not sync container logs to disk when a container ends, for the type oci only.
        no_sync_log: bool = Bool(false) => .file_only();
        /// Annotations that a pod gets unless it sets them.
        default_annotations: BTreeMap<String, String> = EmptyMap => .file_only();
        /// Let the monitor serve streams over WebSocket, for the type pod only.
        stream_websockets: bool = Bool(false) => .file_only();
        /// "first" starts exec processes on the first of the container's CPUs.
        exec_cpu_affinity: String = Text("") => .file_only();
        /// Seccomp profile of this handler. It wins over the global one.
        seccomp_profile: Option<PathBuf> = Text("") => .file_only();
        /// Seconds that creating a container may take, at least 30.
        container_create_timeout: i64 = Integer(240) => .file_only();
    }
    derived {
        /// What `runtime_path` and its absence come to.
        binary: RuntimeBinary = RuntimeBinary::Builtin;
    }
}

impl RuntimeHandler {
    /// The handler `crun` as it is before any file is read.
    pub(crate) fn prefilled() -> Self {
        Self {
            container_min_memory: "500KiB".to_owned(),
            allowed_annotations: vec![
                "io.containers.trace-syscall".to_owned(),
                "devices.crio.io".to_owned(),
            ],
            ..Self::default()
        }
    }

    /// The least memory a container of this handler may ask for, in bytes. `None` when the text is unreadable.
    pub fn minimum_memory_bytes(&self) -> Option<u64> {
        crate::value::size::parse_bytes(&self.container_min_memory)
    }
}
