//! What a spec is made from.

use std::collections::BTreeMap;
use std::path::Path;

use crioxide_cri_api::v1;
use oci_spec::runtime::{Capabilities, Capability, LinuxDevice, LinuxSeccomp, Mount, PosixRlimit};

use crate::capabilities::InheritableSet;
use crate::cgroups_path::CgroupManager;
use crate::devices::DeviceGrant;
use crate::image_facts::ImageFacts;
use crate::mounts::fixed::{PodFiles, Writability};
use crate::mounts::volumes::{RecursiveReadOnly, VolumeSource};
use crate::namespaces::NamespaceSources;
use crate::resources::CgroupFacts;
use crate::user::ResolvedUser;

/// Facts about the node that are the same for every container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// What the cgroups can do.
    pub cgroup: CgroupFacts,
    /// The most capabilities a container can get.
    pub bounding: Capabilities,
    /// Whether submounts can be made read-only.
    pub recursive_read_only: RecursiveReadOnly,
}

/// The configured defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct SpecDefaults {
    /// `default_capabilities`.
    pub capabilities: Vec<Capability>,
    /// `add_inheritable_capabilities`.
    pub inheritable: InheritableSet,
    /// `default_env`, `K=V` each.
    pub env: Vec<String>,
    /// `default_ulimits`.
    pub rlimits: Vec<PosixRlimit>,
    /// `pids_limit`; 0 and less write no limit.
    pub pids_limit: i64,
    /// `read_only`: every root file system, with scratch mounts.
    pub rootfs: Writability,
    /// `cgroup_manager`.
    pub cgroup_manager: CgroupManager,
    /// `container_min_memory` of the handler, bytes.
    pub minimum_memory: i64,
    /// `exec_cpu_affinity = "first"` of the handler.
    pub exec_on_first_cpu: bool,
}

impl Default for SpecDefaults {
    fn default() -> Self {
        use Capability::{
            Chown, DacOverride, Fowner, Fsetid, Kill, NetBindService, Setgid, Setpcap, Setuid,
        };
        Self {
            capabilities: vec![
                Chown,
                DacOverride,
                Fsetid,
                Fowner,
                Setgid,
                Setuid,
                Setpcap,
                NetBindService,
                Kill,
            ],
            inheritable: InheritableSet::Empty,
            env: Vec::new(),
            rlimits: Vec::new(),
            pids_limit: -1,
            rootfs: Writability::ReadWrite,
            cgroup_manager: CgroupManager::Systemd,
            minimum_memory: 12 << 20,
            exec_on_first_cpu: false,
        }
    }
}

/// Security labels and profiles, already chosen and loaded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Confinement {
    /// System call filter; `None` is unconfined.
    pub seccomp: Option<LinuxSeccomp>,
    /// Name of the AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// SELinux label of the process.
    pub process_label: Option<String>,
    /// SELinux label of the mounts.
    pub mount_label: Option<String>,
}

/// Devices of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Devices {
    /// Configured, requested and injected ones.
    pub granted: Vec<DeviceGrant>,
    /// All devices of the node, for privileged containers; `None` with `privileged_without_host_devices`.
    pub host: Option<Vec<LinuxDevice>>,
}

/// Everything a container's spec depends on.
#[derive(Debug, Clone)]
pub struct ContainerSpecRequest<'a> {
    /// Container id.
    pub id: &'a str,
    /// The CRI request.
    pub config: &'a v1::ContainerConfig,
    /// The pod's CRI request.
    pub sandbox: &'a v1::PodSandboxConfig,
    /// Configuration of the image.
    pub image: &'a ImageFacts,
    /// Who runs it.
    pub user: &'a ResolvedUser,
    /// The mounted root file system.
    pub rootfs: &'a Path,
    /// The pod's host name.
    pub hostname: &'a str,
    /// The pod's parent cgroup.
    pub cgroup_parent: &'a str,
    /// Namespaces to join and create.
    pub namespaces: &'a NamespaceSources,
    /// The pod's files.
    pub files: &'a PodFiles,
    /// Sources of the CRI mounts, keyed by container path.
    pub volumes: &'a BTreeMap<String, VolumeSource>,
    /// Mounts from elsewhere: image-declared volumes, secrets, `/etc/passwd`, time zone.
    pub extra_mounts: &'a [Mount],
    /// Devices.
    pub devices: &'a Devices,
    /// Profiles and labels.
    pub confinement: &'a Confinement,
    /// File mode mask of the process, from the `umask` annotation.
    pub umask: Option<u32>,
    /// Size of the terminal, rows and columns.
    pub console_size: Option<(u64, u64)>,
    /// Facts about the node.
    pub host: &'a HostFacts,
    /// The configured defaults.
    pub defaults: &'a SpecDefaults,
}

impl ContainerSpecRequest<'_> {
    /// The security context of the request, if any.
    pub(crate) fn security(&self) -> Option<&v1::LinuxContainerSecurityContext> {
        self.config.linux.as_ref()?.security_context.as_ref()
    }

    pub(crate) fn privilege(&self) -> Privilege {
        if self.security().is_some_and(|security| security.privileged) {
            Privilege::Privileged
        } else {
            Privilege::Restricted
        }
    }

    /// Whether the root file system may be written to.
    pub(crate) fn rootfs_writability(&self) -> Writability {
        let requested = self
            .security()
            .is_some_and(|security| security.readonly_rootfs);
        if requested || self.defaults.rootfs == Writability::ReadOnly {
            Writability::ReadOnly
        } else {
            Writability::ReadWrite
        }
    }
}

/// Whether a container is confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// As usual.
    Restricted,
    /// Nearly as the node itself.
    Privileged,
}

/// Everything the spec of a pod's own container depends on.
#[derive(Debug, Clone)]
pub struct SandboxSpecRequest<'a> {
    /// Pod id.
    pub id: &'a str,
    /// The CRI request.
    pub config: &'a v1::PodSandboxConfig,
    /// Arguments of the pause process.
    pub command: &'a [String],
    /// The mounted root file system.
    pub rootfs: &'a Path,
    /// The pod's host name.
    pub hostname: &'a str,
    /// The pod's parent cgroup.
    pub cgroup_parent: &'a str,
    /// Namespaces to join and create.
    pub namespaces: &'a NamespaceSources,
    /// The pod's files.
    pub files: &'a PodFiles,
    /// Kernel parameters to set, from [`crate::sysctls::select`].
    pub sysctls: &'a BTreeMap<String, String>,
    /// CPUs of infra containers (`infra_ctr_cpuset`); empty for all.
    pub cpuset: &'a str,
    /// Profiles and labels.
    pub confinement: &'a Confinement,
    /// Annotations of the record.
    pub annotations: BTreeMap<String, String>,
    /// Facts about the node.
    pub host: &'a HostFacts,
    /// The configured defaults.
    pub defaults: &'a SpecDefaults,
}
