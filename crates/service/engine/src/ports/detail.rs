//! The figures that pod metrics need beyond those of stats. What the kernel does not tell is `None` or not listed.

use super::{CgroupStats, NetworkStats, Usage};

/// Everything that is known of one pod's or container's use of the node.
#[derive(Debug, Clone, Default)]
pub struct StatsDetail {
    /// As for stats.
    pub cgroup: Option<CgroupStats>,
    /// As for stats.
    pub layer: Option<Usage>,
    /// As for stats.
    pub network: Option<NetworkStats>,
    /// Processor time.
    pub cpu: CpuDetail,
    /// Memory.
    pub memory: MemoryDetail,
    /// Traffic to block devices.
    pub io: Vec<DeviceIo>,
    /// Huge pages.
    pub huge_pages: Vec<HugePages>,
    /// Processes killed for lack of memory.
    pub oom_kills: Option<u64>,
    /// Its processes.
    pub processes: Option<ProcessDetail>,
    /// The file system that its writable layer is on.
    pub disk: Option<Disk>,
}

/// Processor time, nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct CpuDetail {
    /// Outside of the kernel.
    pub user: Option<u64>,
    /// In the kernel.
    pub system: Option<u64>,
    /// In all, by processor.
    pub per_cpu: Vec<u64>,
    /// Periods with a quota.
    pub periods: Option<u64>,
    /// Periods in which the quota was used up.
    pub throttled_periods: Option<u64>,
    /// Time spent waiting for the next period.
    pub throttled: Option<u64>,
}

/// Memory, bytes.
#[derive(Debug, Clone, Default)]
pub struct MemoryDetail {
    /// Page cache.
    pub cache: Option<u64>,
    /// The kernel's own.
    pub kernel: Option<u64>,
    /// Mapped files.
    pub mapped_file: Option<u64>,
    /// Times that a charge met the limit.
    pub failures: Option<u64>,
    /// Highest usage so far.
    pub max_usage: Option<u64>,
    /// Page faults of the cgroup without those below it.
    pub page_faults: Option<u64>,
    /// Page faults that had to read, likewise.
    pub major_page_faults: Option<u64>,
    /// Memory that is kept for it.
    pub reservation: Option<u64>,
}

/// Traffic to a block device.
#[derive(Debug, Clone, Default)]
pub struct DeviceIo {
    /// Its file: `/dev/vda`.
    pub name: String,
    /// Major and minor number.
    pub device: (u32, u32),
    /// Bytes read.
    pub read_bytes: u64,
    /// Read requests.
    pub reads: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Write requests.
    pub writes: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, Default)]
pub struct HugePages {
    /// `2MB`
    pub size: String,
    /// Bytes in use.
    pub usage: u64,
    /// Highest usage so far.
    pub max_usage: Option<u64>,
}

/// Counts over all processes.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessDetail {
    /// Processes.
    pub processes: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Those of them that are sockets.
    pub sockets: u64,
    /// Highest allowed number of threads; 0 for no limit.
    pub threads_max: u64,
    /// The first process's limit of open files, -1 for none.
    pub max_open_files: Option<u64>,
}

/// A file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk {
    /// Bytes in all.
    pub bytes: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Inodes that are free.
    pub free_inodes: u64,
}
