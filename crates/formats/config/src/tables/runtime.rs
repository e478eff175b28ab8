//! `[crio.runtime]`

use std::path::PathBuf;

use super::Config;
use crate::reload::ReloadKind;
use crate::value::choice::{CgroupManager, LogLevel};

option_table! {
    /// `[crio.runtime]`: how pods and containers are run.
    pub struct RuntimeConfig for Config, at [runtime] in "crio.runtime" {
        /// Limits of every container, as name=soft:hard without RLIMIT_; -1 is unlimited.
        /// Empty lets containers inherit the daemon's.
        default_ulimits: Vec<String> = List(&[]);
        /// Make the runtime use MS_MOVE instead of pivot_root.
        no_pivot: bool = Bool(false);
        /// Directory of the private keys for encrypted images. Read on each pull.
        decryption_keys_path: PathBuf = Text("/etc/crio/keys/")
            => .no_env().reload(ReloadKind::DecryptionKeys);
        /// Absolute directories with an artifacts/ OCI layout, read-only and consulted first.
        additional_artifact_stores: Vec<PathBuf> = List(&[]) => .no_env();
        /// Path of the conmon program for every handler.
        conmon: Option<PathBuf> = Text("") => .deprecated("monitor_path of the handler");
        /// Cgroup of conmon for every handler.
        conmon_cgroup: String = Text("") => .deprecated("monitor_cgroup of the handler");
        /// Environment of conmon for every handler.
        conmon_env: Vec<String> = List(&[]) => .deprecated("monitor_env of the handler");
        /// Environment variables of every container. Those of images and pods win.
        default_env: Vec<String> = List(&[]);
        /// Least GOMAXPROCS put into burstable and best-effort pods. 0 puts none.
        min_injected_gomaxprocs: i64 = Integer(0) => .env(&["CONTAINER_INJECT_GOMAXPROCS"]);
        /// Label containers for SELinux. The default is whether the host has it enabled.
        selinux: bool = Bool(false) => .deprecated("the state of SELinux on the host");
        /// Default seccomp profile. Empty takes the built-in one.
        seccomp_profile: Option<PathBuf> = Text("") => .reload(ReloadKind::Seccomp);
        /// Seccomp profile of privileged containers. Empty gives them none.
        privileged_seccomp_profile: Option<PathBuf> = Text("") => .reload(ReloadKind::Seccomp);
        /// Default AppArmor profile. crio-default is generated; unconfined turns confinement off.
        apparmor_profile: String = Text("crio-default") => .reload(ReloadKind::AppArmor);
        /// Block I/O classes.
        blockio_config_file: Option<PathBuf> = Text("") => .no_env().reload(ReloadKind::BlockIo);
        /// Read the block I/O classes and scan the devices before each use.
        blockio_reload: bool = Bool(false) => .no_env().reload(ReloadKind::BlockIo);
        /// File that holds IRQBALANCE_BANNED_CPUS.
        irqbalance_config_file: Option<PathBuf> = Text("/etc/sysconfig/irqbalance") => .no_env();
        /// Where the original mask of banned CPUs is kept; restored at start. "disable" turns that off.
        irqbalance_config_restore_file: String = Text("/etc/sysconfig/orig_irq_banned_cpus") => .no_env();
        /// RDT classes. Without resctrl they are ignored.
        rdt_config_file: Option<PathBuf> = Text("") => .no_env().reload(ReloadKind::Rdt);
        /// Who creates and configures control groups: systemd or cgroupfs.
        cgroup_manager: CgroupManager = Text("systemd");
        /// Pull images in a process of its own in this cgroup: pod, or a slice.
        separate_pull_cgroup: String = Text("") => .env(&["PULL_IN_A_CGROUP"]);
        /// Capabilities of containers unless the pod says otherwise.
        default_capabilities: Vec<String> = List(&[
            "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "KILL",
        ]);
        /// Make the default capabilities inheritable too.
        add_inheritable_capabilities: bool = Bool(false);
        /// Sysctls of every pod, as key=value.
        default_sysctls: Vec<String> = List(&[]);
        /// Host devices that the devices annotation may ask for.
        allowed_devices: Vec<String> = List(&["/dev/fuse", "/dev/net/tun"]);
        /// Devices of every container, as host[:container[:rwm]].
        additional_devices: Vec<String> = List(&[]);
        /// Directories of CDI specifications.
        cdi_spec_dirs: Vec<PathBuf> = List(&["/etc/cdi", "/var/run/cdi"]) => .reload(ReloadKind::CdiSpecDirs);
        /// Give device nodes to the user and group that the container runs as.
        device_ownership_from_security_context: bool = Bool(false) => .no_env();
        /// Directories of OCI hooks. Later ones win.
        hooks_dir: Vec<PathBuf> = List(&["/usr/share/containers/oci/hooks.d"]);
        /// File of mounts for every container, one source:destination per line. Empty takes
        /// /etc/containers/mounts.conf, then /usr/share/containers/mounts.conf.
        default_mounts_file: Option<PathBuf> = Text("");
        /// Most processes of a container. -1 sets no limit.
        pids_limit: i64 = Integer(-1) => .deprecated("the kubelet's pod-pids-limit");
        /// Largest container log in bytes. Negative is unlimited, anything else at least 8192.
        log_size_max: i64 = Integer(-1) => .deprecated("the kubelet's container-log-max-size");
        /// Write container logs to the journal as well.
        log_to_journald: bool = Bool(false) => .named("log-journald");
        /// Directory of exit files.
        container_exits_dir: PathBuf = Text("/var/run/crio/exits");
        /// Directory of attach sockets.
        container_attach_socket_dir: PathBuf = Text("/var/run/crio");
        /// Put before the source of every bind mount, for a daemon that runs in a container.
        bind_mount_prefix: String = Text("");
        /// Make the root filesystem of every container read-only.
        read_only: bool = Bool(false);
        /// Least important level that is logged: fatal, panic, error, warn, info, debug or trace.
        log_level: LogLevel = Text("info") => .short('l').reload(ReloadKind::LogLevel);
        /// Regular expression that log messages must match.
        log_filter: String = Text("") => .reload(ReloadKind::LogFilter);
        /// User ids of the default user namespace, as container:host:size, separated by commas.
        uid_mappings: String = Text("") => .deprecated("user namespaces of the kubelet");
        /// Group ids of the default user namespace, as container:host:size, separated by commas.
        gid_mappings: String = Text("") => .deprecated("user namespaces of the kubelet");
        /// Lowest host user id that a pod may map.
        minimum_mappable_uid: i64 = Integer(-1) => .deprecated("user namespaces of the kubelet");
        /// Lowest host group id that a pod may map.
        minimum_mappable_gid: i64 = Integer(-1) => .deprecated("user namespaces of the kubelet");
        /// Least seconds a container gets to stop, at least 30.
        ctr_stop_timeout: i64 = Integer(30) => .env(&["CONTAINER_STOP_TIMEOUT"]);
        /// Run no infra container unless the pod needs one.
        drop_infra_ctr: bool = Bool(true);
        /// CPUs of infra containers and helper programs.
        infra_ctr_cpuset: String = Text("");
        /// CPUs that guaranteed containers may share.
        shared_cpuset: String = Text("");
        /// Directory below which namespaces are pinned.
        namespaces_dir: PathBuf = Text("/var/run");
        /// Path of the pinns program of CRI-O. Namespaces are pinned without it.
        pinns_path: Option<PathBuf> = Text("");
        /// Offer checkpoint and restore; false makes container_level_enabled none.
        enable_criu_support: bool = Bool(true) => .deprecated("container_level_enabled in [crio.checkpoint_restore]");
        /// Send container events to the kubelet.
        enable_pod_events: bool = Bool(false) => .env(&["ENABLE_POD_EVENTS"]);
        /// Handler of pods that name none.
        default_runtime: String = Text("crun") => .reload(ReloadKind::Runtimes);
        /// Bind mount sources that must exist: instead of being created they are an error.
        absent_mount_sources_to_reject: Vec<PathBuf> = List(&[]);
        /// Give pods in the host's network no SELinux label.
        hostnetwork_disable_selinux: bool = Bool(true);
        /// Install no host port rules.
        disable_hostport_mapping: bool = Bool(false) => .env(&["DISABLE_HOSTPORT_MAPPING"]);
        /// Time zone of containers: empty leaves the image's, Local is the host's, else an IANA name.
        timezone: String = Text("") => .alias("tz").env(&["CONTAINER_TIME_ZONE"]);
    }
}
