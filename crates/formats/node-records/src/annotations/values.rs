//! The JSON values inside annotations, with the field names Go gives them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// CRI metadata of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxMetadata {
    /// Name of the pod object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Uid of the pod object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Namespace of the pod object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Earlier sandboxes of this pod.
    #[serde(skip_serializing_if = "is_default")]
    pub attempt: u32,
}

/// CRI metadata of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerMetadata {
    /// Name within the pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Earlier containers of this name.
    #[serde(skip_serializing_if = "is_default")]
    pub attempt: u32,
}

/// CRI namespace modes, numbered as in the CRI: 0 pod, 1 container, 2 node, 3 target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceOptions {
    /// Network namespace mode.
    #[serde(skip_serializing_if = "is_default")]
    pub network: i32,
    /// PID namespace mode.
    #[serde(skip_serializing_if = "is_default")]
    pub pid: i32,
    /// IPC namespace mode.
    #[serde(skip_serializing_if = "is_default")]
    pub ipc: i32,
    /// Container whose PID namespace is joined in target mode.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_id: String,
    /// User namespace, if any was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns_options: Option<UserNamespace>,
}

/// A requested user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserNamespace {
    /// Namespace mode.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: i32,
    /// User id ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uids: Vec<IdMapping>,
    /// Group id ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gids: Vec<IdMapping>,
}

/// A range of ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdMapping {
    /// First id outside.
    #[serde(skip_serializing_if = "is_default")]
    pub host_id: u32,
    /// First id inside.
    #[serde(skip_serializing_if = "is_default")]
    pub container_id: u32,
    /// Number of ids.
    #[serde(skip_serializing_if = "is_default")]
    pub length: u32,
}

/// CRI resources of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinuxResources {
    /// CFS period, microseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_period: i64,
    /// CFS quota, microseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_quota: i64,
    /// CPU weight as cgroup v1 shares.
    #[serde(skip_serializing_if = "is_default")]
    pub cpu_shares: i64,
    /// Memory limit, bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub memory_limit_in_bytes: i64,
    /// `oom_score_adj`.
    #[serde(skip_serializing_if = "is_default")]
    pub oom_score_adj: i64,
    /// CPU list.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cpuset_cpus: String,
    /// Memory node list.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cpuset_mems: String,
    /// Limits per huge page size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Raw cgroup v2 files.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unified: BTreeMap<String, String>,
    /// Memory plus swap limit, bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub memory_swap_limit_in_bytes: i64,
}

/// Limit for one huge page size.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HugepageLimit {
    /// `2MB`, `1GB`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub page_size: String,
    /// Bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: u64,
}

/// A port of the node that leads to the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortMapping {
    /// Port on the node.
    pub host_port: i32,
    /// Port in the pod.
    pub container_port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Address on the node; empty for all.
    #[serde(rename = "HostIP")]
    pub host_ip: String,
}

/// A mount the container was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Where it is mounted.
    pub container_path: String,
    /// What is mounted.
    pub host_path: String,
    /// Read-only at the top.
    pub readonly: bool,
    /// Read-only including submounts.
    pub recursive_read_only: bool,
    /// CRI mount propagation: 0 private, 1 from the host, 2 both ways.
    pub propagation: i32,
    /// Whether it was relabelled for SELinux.
    pub selinux_relabel: bool,
    /// The image, if an image is mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<VolumeImage>,
}

/// The image of an image volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeImage {
    /// Image id or artifact digest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The user's reference.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_specified_image: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
