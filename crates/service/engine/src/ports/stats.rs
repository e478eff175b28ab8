//! Resource usage, read from the kernel.

use std::path::Path;

use async_trait::async_trait;
use crioxide_cri_api::v1;
use crioxide_names::ContainerId;

use super::PortResult;

/// One reading of a cgroup.
#[derive(Debug, Clone, Default)]
pub struct CgroupStats {
    /// When, Unix nanoseconds.
    pub timestamp: i64,
    /// CPU time used so far, nanoseconds.
    pub cpu_usage: u64,
    /// Memory, bytes.
    pub memory_usage: u64,
    /// Memory that cannot be dropped at once, bytes.
    pub working_set: u64,
    /// Anonymous memory, bytes.
    pub rss: u64,
    /// Limit, bytes, if any.
    pub memory_limit: Option<u64>,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that read from disk.
    pub major_page_faults: u64,
    /// Swap used, bytes.
    pub swap_usage: Option<u64>,
    /// Processes.
    pub processes: u64,
}

/// Space used by a directory tree.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// Readers of usage.
#[async_trait]
pub trait Stats: Send + Sync {
    /// A cgroup, named as in the OCI spec's cgroupsPath; `None` when it is gone.
    async fn cgroup(&self, cgroups_path: &str) -> PortResult<Option<CgroupStats>>;
    /// A pod's parent cgroup.
    async fn pod_cgroup(&self, parent: &str) -> PortResult<Option<CgroupStats>>;
    /// The writable layer of a container.
    async fn writable_layer(&self, id: &ContainerId) -> PortResult<Usage>;
    /// Interfaces of a network namespace.
    async fn network(&self, netns: &Path) -> PortResult<Vec<v1::NetworkInterfaceUsage>>;
}
