//! Names of the annotations.

/// Who manages the container: always [`MANAGER_VALUE`].
pub const MANAGER: &str = "io.container.manager";
/// The value other tools look for.
pub const MANAGER_VALUE: &str = "cri-o";
/// JSON object of the CRI annotations.
pub const ANNOTATIONS: &str = "io.kubernetes.cri-o.Annotations";
/// Parent cgroup of the pod.
pub const CGROUP_PARENT: &str = "io.kubernetes.cri-o.CgroupParent";
/// Result of the CNI ADD.
pub const CNI_RESULT: &str = "io.kubernetes.cri-o.CNIResult";
/// Container id; of a sandbox its infra container's.
pub const CONTAINER_ID: &str = "io.kubernetes.cri-o.ContainerID";
/// Name of the infra container.
pub const CONTAINER_NAME: &str = "io.kubernetes.cri-o.ContainerName";
/// `sandbox` or `container`.
pub const CONTAINER_TYPE: &str = "io.kubernetes.cri-o.ContainerType";
/// Creation time.
pub const CREATED: &str = "io.kubernetes.cri-o.Created";
/// Host name of the pod.
pub const HOST_NAME: &str = "io.kubernetes.cri-o.HostName";
/// File mounted as `/etc/hostname`.
pub const HOSTNAME_PATH: &str = "io.kubernetes.cri-o.HostnamePath";
/// Whether the pod uses the node's network.
pub const HOST_NETWORK: &str = "io.kubernetes.cri-o.HostNetwork";
/// The image reference the user gave.
pub const IMAGE: &str = "io.kubernetes.cri-o.Image";
/// A name of the image.
pub const IMAGE_NAME: &str = "io.kubernetes.cri-o.ImageName";
/// Id of the image.
pub const IMAGE_REF: &str = "io.kubernetes.cri-o.ImageRef";
/// Comma-separated `repository@digest` of the image.
pub const IMAGE_REPO_DIGESTS: &str = "io.kubernetes.cri-o.ImageRepoDigests";
/// Prefix of the pod's addresses, followed by a number from 0 on.
pub const IP_PREFIX: &str = "io.kubernetes.cri-o.IP.";
/// Name of the pod in Kubernetes.
pub const KUBE_NAME: &str = "io.kubernetes.cri-o.KubeName";
/// JSON object of the CRI labels.
pub const LABELS: &str = "io.kubernetes.cri-o.Labels";
/// Log file.
pub const LOG_PATH: &str = "io.kubernetes.cri-o.LogPath";
/// JSON object of the CRI metadata.
pub const METADATA: &str = "io.kubernetes.cri-o.Metadata";
/// Root file system.
pub const MOUNT_POINT: &str = "io.kubernetes.cri-o.MountPoint";
/// Name in the store.
pub const NAME: &str = "io.kubernetes.cri-o.Name";
/// Namespace of the pod in Kubernetes.
pub const NAMESPACE: &str = "io.kubernetes.cri-o.Namespace";
/// JSON object of the CRI namespace options.
pub const NAMESPACE_OPTIONS: &str = "io.kubernetes.cri-o.NamespaceOptions";
/// JSON array of the port mappings.
pub const PORT_MAPPINGS: &str = "io.kubernetes.cri-o.PortMappings";
/// Whether the pod may hold privileged containers.
pub const PRIVILEGED_RUNTIME: &str = "io.kubernetes.cri-o.PrivilegedRuntime";
/// File mounted as `/etc/resolv.conf`.
pub const RESOLV_PATH: &str = "io.kubernetes.cri-o.ResolvPath";
/// Runtime handler of the pod.
pub const RUNTIME_HANDLER: &str = "io.kubernetes.cri-o.RuntimeHandler";
/// Sandbox id.
pub const SANDBOX_ID: &str = "io.kubernetes.cri-o.SandboxID";
/// Sandbox name in the store.
pub const SANDBOX_NAME: &str = "io.kubernetes.cri-o.SandboxName";
/// `RuntimeDefault`, `Unconfined` or a file.
pub const SECCOMP_PROFILE_PATH: &str = "io.kubernetes.cri-o.SeccompProfilePath";
/// Directory mounted as `/dev/shm`.
pub const SHM_PATH: &str = "io.kubernetes.cri-o.ShmPath";
/// Whether stdin is open.
pub const STDIN: &str = "io.kubernetes.cri-o.Stdin";
/// Whether stdin closes after the first attach.
pub const STDIN_ONCE: &str = "io.kubernetes.cri-o.StdinOnce";
/// Whether a terminal is used.
pub const TTY: &str = "io.kubernetes.cri-o.TTY";
/// JSON array of the mounts.
pub const VOLUMES: &str = "io.kubernetes.cri-o.Volumes";
/// JSON of the pod overhead.
pub const POD_LINUX_OVERHEAD: &str = "pod-linux-overhead.crio.io";
/// Earlier spelling of [`POD_LINUX_OVERHEAD`].
pub const POD_LINUX_OVERHEAD_V1: &str = "io.kubernetes.cri-o.PodLinuxOverhead";
/// JSON of the pod-level resources.
pub const POD_LINUX_RESOURCES: &str = "pod-linux-resources.crio.io";
/// Earlier spelling of [`POD_LINUX_RESOURCES`].
pub const POD_LINUX_RESOURCES_V1: &str = "io.kubernetes.cri-o.PodLinuxResources";
/// `true` if the pod has no infra process.
pub const SPOOFED: &str = "spoofed.crio.io";
/// Earlier spelling of [`SPOOFED`].
pub const SPOOFED_V1: &str = "io.kubernetes.cri-o.Spoofed";
/// Runtime binary that was chosen for the platform.
pub const PLATFORM_RUNTIME_PATH: &str = "platform-runtime-path.crio.io";
/// Earlier spelling of [`PLATFORM_RUNTIME_PATH`].
pub const PLATFORM_RUNTIME_PATH_V1: &str = "io.kubernetes.cri-o.PlatformRuntimePath";
/// The image's stop signal.
pub const STOP_SIGNAL: &str = "org.opencontainers.image.stopSignal";
/// systemd unit property: no default dependencies.
pub const SYSTEMD_DEFAULT_DEPENDENCIES: &str = "org.systemd.property.DefaultDependencies";
/// systemd unit property: ordering.
pub const SYSTEMD_AFTER: &str = "org.systemd.property.After";
/// systemd unit property: stop timeout.
pub const SYSTEMD_TIMEOUT_STOP: &str = "org.systemd.property.TimeoutStopUSec";
/// CRI annotation with the pod's grace period in seconds.
pub const TERMINATION_GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
/// CRI label: container name.
pub const KUBERNETES_CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// CRI label: pod name.
pub const KUBERNETES_POD_NAME: &str = "io.kubernetes.pod.name";
/// CRI label: pod namespace.
pub const KUBERNETES_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// CRI label: pod uid.
pub const KUBERNETES_POD_UID: &str = "io.kubernetes.pod.uid";

/// Whether only the runtime itself may set an annotation, because it restores pods from it.
///
/// Requests may carry any key; copied into a record unchecked they could pretend to be the runtime's own.
#[must_use]
pub fn is_internal(key: &str) -> bool {
    const INTERNAL: [&str; 44] = [
        MANAGER,
        ANNOTATIONS,
        CGROUP_PARENT,
        CNI_RESULT,
        CONTAINER_ID,
        CONTAINER_NAME,
        CONTAINER_TYPE,
        CREATED,
        HOST_NAME,
        HOSTNAME_PATH,
        HOST_NETWORK,
        IMAGE,
        IMAGE_NAME,
        IMAGE_REF,
        IMAGE_REPO_DIGESTS,
        KUBE_NAME,
        LABELS,
        LOG_PATH,
        METADATA,
        MOUNT_POINT,
        NAME,
        NAMESPACE,
        NAMESPACE_OPTIONS,
        PORT_MAPPINGS,
        PRIVILEGED_RUNTIME,
        RESOLV_PATH,
        RUNTIME_HANDLER,
        SANDBOX_ID,
        SANDBOX_NAME,
        SECCOMP_PROFILE_PATH,
        SHM_PATH,
        STDIN,
        STDIN_ONCE,
        TTY,
        VOLUMES,
        POD_LINUX_OVERHEAD,
        POD_LINUX_OVERHEAD_V1,
        POD_LINUX_RESOURCES,
        POD_LINUX_RESOURCES_V1,
        SPOOFED,
        SPOOFED_V1,
        PLATFORM_RUNTIME_PATH,
        PLATFORM_RUNTIME_PATH_V1,
        STOP_SIGNAL,
    ];
    INTERNAL.contains(&key) || key.starts_with(IP_PREFIX)
}
