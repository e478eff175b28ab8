//! Resource usage, read from the kernel.

use std::path::PathBuf;

use async_trait::async_trait;

use super::StatsDetail;

/// What is to be read of one pod or container.
#[derive(Debug, Clone)]
pub struct StatsTarget {
    /// Its id, under which its files are kept open.
    pub id: String,
    /// Its cgroup, while it has one.
    pub cgroup: Option<CgroupName>,
    /// It has a writable layer.
    pub layer: bool,
    /// Its network namespace, if its interfaces are wanted.
    pub netns: Option<PathBuf>,
}

/// A cgroup by its name in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupName {
    /// A container's, as the OCI spec's cgroupsPath.
    Container(String),
    /// A pod's parent, as the kubelet names it.
    Pod(String),
}

/// What was found. Each part may be of another moment, and is missing when it could not be read in time.
#[derive(Debug, Clone, Default)]
pub struct StatsReading {
    /// The cgroup.
    pub cgroup: Option<CgroupStats>,
    /// The writable layer.
    pub layer: Option<Usage>,
    /// The interfaces, without the loopback.
    pub network: Option<NetworkStats>,
}

/// One reading of a cgroup.
#[derive(Debug, Clone, Copy, Default)]
pub struct CgroupStats {
    /// When, Unix nanoseconds.
    pub timestamp: i64,
    /// CPU time used so far, nanoseconds.
    pub cpu_usage: u64,
    /// CPU time per second of late, nanoseconds; not known of the first reading.
    pub cpu_rate: Option<u64>,
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
    /// Limit of swap, bytes, if any.
    pub swap_limit: Option<u64>,
    /// Processes.
    pub processes: u64,
    /// Time lost waiting for processors, where the kernel tells.
    pub cpu_pressure: Option<Pressure>,
    /// Time lost waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// Time lost waiting for disks.
    pub io_pressure: Option<Pressure>,
}

/// Pressure stall information of one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// While at least one task waited.
    pub some: Stalled,
    /// While all tasks waited.
    pub full: Stalled,
}

/// Time lost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stalled {
    /// Microseconds in all.
    pub total: u64,
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
}

/// Space used by a directory tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// When it was counted, Unix nanoseconds.
    pub timestamp: i64,
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// Interfaces of a network namespace.
#[derive(Debug, Clone, Default)]
pub struct NetworkStats {
    /// When, Unix nanoseconds.
    pub timestamp: i64,
    /// In the kernel's order.
    pub interfaces: Vec<InterfaceStats>,
}

/// Counters of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceStats {
    /// Name.
    pub name: String,
    /// In.
    pub received: Traffic,
    /// Out.
    pub sent: Traffic,
}

/// One direction of an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Bad packets or failures.
    pub errors: u64,
    /// Packets that found no room.
    pub dropped: u64,
}

/// Readers of usage.
#[async_trait]
pub trait Stats: Send + Sync {
    /// Readings of all targets in their order, at most a moment old. A target that cannot be read in time, because
    /// the kernel holds its reader up, gets its last reading; none of the others waits for it.
    async fn read(&self, targets: Vec<StatsTarget>) -> Vec<StatsReading>;
    /// As [`Self::read`], with all that pod metrics need.
    async fn detail(&self, targets: Vec<StatsTarget>) -> Vec<StatsDetail>;
    /// Closes what is kept open for a pod or container that has ended.
    fn forget(&self, id: &str);
}
