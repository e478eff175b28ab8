//! The annotations that handlers and workloads may allow.

/// Names as `allowed_annotations` spells them: current ones and, where they differ, those before them.
/// Each stands for every annotation that starts with it.
pub const KNOWN: &[&str] = &[
    "cgroup2-mount-hierarchy-rw.crio.io",
    "cpu-c-states.crio.io",
    "cpu-freq-governor.crio.io",
    "cpu-load-balancing.crio.io",
    "cpu-quota.crio.io",
    "cpu-shared.crio.io",
    "devices.crio.io",
    "disable-fips.crio.io",
    "irq-load-balancing.crio.io",
    "link-logs.crio.io",
    "platform-runtime-path.crio.io",
    "pod-linux-overhead.crio.io",
    "pod-linux-resources.crio.io",
    "seccomp-notifier-action.crio.io",
    "seccomp-profile.crio.io",
    "shm-size.crio.io",
    "skip-gomaxprocs.crio.io",
    "spoofed.crio.io",
    "try-skip-volume-selinux-label.crio.io",
    "umask.crio.io",
    "unified-cgroup.crio.io",
    "userns-mode.crio.io",
    "io.containers.trace-syscall",
    "io.kubernetes.cri-o.Devices",
    "io.kubernetes.cri-o.DisableFIPS",
    "io.kubernetes.cri-o.LinkLogs",
    "io.kubernetes.cri-o.PlatformRuntimePath",
    "io.kubernetes.cri-o.PodLinuxOverhead",
    "io.kubernetes.cri-o.PodLinuxResources",
    "io.kubernetes.cri-o.ShmSize",
    "io.kubernetes.cri-o.Spoofed",
    "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel",
    "io.kubernetes.cri-o.UnifiedCgroup",
    "io.kubernetes.cri-o.cgroup2-mount-hierarchy-rw",
    "io.kubernetes.cri-o.seccompNotifierAction",
    "io.kubernetes.cri-o.umask",
    "io.kubernetes.cri-o.userns-mode",
    "io.kubernetes.cri.rdt-class",
    "seccomp-profile.kubernetes.cri-o.io",
    "org.systemd.property.",
    "org.criu.config",
    "run.oci.",
    "module.wasm.image/variant",
    "bundle",
    "io.kubernetes.cri.container-type",
];

/// Whether `name` is a known annotation or one below a known prefix.
pub fn is_known(name: &str) -> bool {
    KNOWN
        .iter()
        .any(|known| name.starts_with(known) || name == known.trim_end_matches('.'))
}
