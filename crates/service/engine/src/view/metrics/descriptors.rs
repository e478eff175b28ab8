//! Names, help texts and labels of the pod metrics.

use std::collections::BTreeSet;

use crioxide_cri_api::v1::{self, MetricType};

/// Labels of every metric, in order; a metric's own come after them.
pub(crate) const BASE_LABELS: [&str; 5] = ["id", "image", "namespace", "pod", "container"];

/// Metrics that are served together (`included_pod_metrics`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricGroup {
    /// Served whatever is configured.
    Always,
    /// `cpu`
    Cpu,
    /// `disk`
    Disk,
    /// `diskIO`
    DiskIo,
    /// `hugetlb`
    Hugetlb,
    /// `memory`
    Memory,
    /// `network`
    Network,
    /// `oom`
    Oom,
    /// `process`
    Process,
    /// `spec`
    Spec,
    /// `pressure`
    Pressure,
}

impl MetricGroup {
    const NAMED: [(&str, Self); 10] = [
        ("cpu", Self::Cpu),
        ("disk", Self::Disk),
        ("diskIO", Self::DiskIo),
        ("hugetlb", Self::Hugetlb),
        ("memory", Self::Memory),
        ("network", Self::Network),
        ("oom", Self::Oom),
        ("process", Self::Process),
        ("spec", Self::Spec),
        ("pressure", Self::Pressure),
    ];

    /// The groups that a configured list names; `all` stands for all of them, and what is always served is added.
    #[must_use]
    pub fn set<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<Self> {
        let mut groups = BTreeSet::from([Self::Always]);
        for name in names {
            let named = Self::NAMED
                .into_iter()
                .filter(|(known, _)| name == "all" || name == *known);
            groups.extend(named.map(|(_, group)| group));
        }
        groups
    }
}

/// One metric.
#[derive(Debug)]
pub(crate) struct Descriptor {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// Labels after [`BASE_LABELS`].
    pub(crate) labels: &'static [&'static str],
    pub(crate) group: MetricGroup,
    pub(crate) kind: MetricType,
}

impl Descriptor {
    fn to_cri(&self) -> v1::MetricDescriptor {
        let labels = BASE_LABELS.iter().chain(self.labels);
        v1::MetricDescriptor {
            name: self.name.to_owned(),
            help: self.help.to_owned(),
            label_keys: labels.map(|label| (*label).to_owned()).collect(),
        }
    }
}

/// All descriptors, as CRI lists them.
pub(crate) fn all() -> Vec<v1::MetricDescriptor> {
    ALL.iter().map(|descriptor| descriptor.to_cri()).collect()
}

/// Declares descriptors as constants and the list of all of them.
macro_rules! descriptors {
    ($($constant:ident: $name:literal, $group:ident, $kind:ident, [$($label:literal),*], $help:literal;)*) => {
        $(
            pub(crate) const $constant: Descriptor = Descriptor {
                name: $name,
                help: $help,
                labels: &[$($label),*],
                group: MetricGroup::$group,
                kind: MetricType::$kind,
            };
        )*
        const ALL: &[&Descriptor] = &[$(&$constant),*];
    };
}

descriptors! {
    LAST_SEEN: "container_last_seen", Always, Gauge, [], "Last time a container was seen by the runtime";
    CPU_USER: "container_cpu_user_seconds_total", Cpu, Counter, [], "Cumulative user CPU time consumed, in seconds";
    CPU_SYSTEM: "container_cpu_system_seconds_total", Cpu, Counter, [], "Cumulative system CPU time consumed, in seconds";
    CPU_USAGE: "container_cpu_usage_seconds_total", Cpu, Counter, ["cpu"], "Cumulative CPU time consumed, in seconds";
    CFS_PERIODS: "container_cpu_cfs_periods_total", Cpu, Counter, [], "Number of elapsed enforcement periods";
    CFS_THROTTLED: "container_cpu_cfs_throttled_periods_total", Cpu, Counter, [], "Number of throttled periods";
    CFS_THROTTLED_TIME: "container_cpu_cfs_throttled_seconds_total", Cpu, Counter, [], "Total time the container has been throttled, in seconds";
    INODES_FREE: "container_fs_inodes_free", Disk, Gauge, [], "Number of available inodes of the file system";
    INODES_TOTAL: "container_fs_inodes_total", Disk, Gauge, [], "Number of inodes of the file system";
    FS_LIMIT: "container_fs_limit_bytes", Disk, Gauge, [], "Number of bytes that the container can use on the file system";
    FS_USAGE: "container_fs_usage_bytes", Disk, Gauge, [], "Number of bytes that the container uses on the file system";
    FS_READ_BYTES: "container_fs_reads_bytes_total", DiskIo, Counter, ["device"], "Cumulative count of bytes read";
    FS_READS: "container_fs_reads_total", DiskIo, Counter, ["device"], "Cumulative count of reads completed";
    FS_WRITE_BYTES: "container_fs_writes_bytes_total", DiskIo, Counter, ["device"], "Cumulative count of bytes written";
    FS_WRITES: "container_fs_writes_total", DiskIo, Counter, ["device"], "Cumulative count of writes completed";
    BLKIO: "container_blkio_device_usage_total", DiskIo, Counter, ["device", "major", "minor", "operation"], "Cumulative count of bytes by device and operation";
    HUGETLB_USAGE: "container_hugetlb_usage_bytes", Hugetlb, Gauge, ["pagesize"], "Current huge page usage, in bytes";
    HUGETLB_MAX: "container_hugetlb_max_usage_bytes", Hugetlb, Gauge, ["pagesize"], "Highest huge page usage recorded, in bytes";
    MEMORY_CACHE: "container_memory_cache", Memory, Gauge, [], "Page cache, in bytes";
    MEMORY_RSS: "container_memory_rss", Memory, Gauge, [], "Anonymous memory, in bytes";
    MEMORY_KERNEL: "container_memory_kernel_usage", Memory, Gauge, [], "Kernel memory, in bytes";
    MEMORY_MAPPED: "container_memory_mapped_file", Memory, Gauge, [], "Memory mapped files, in bytes";
    MEMORY_SWAP: "container_memory_swap", Memory, Gauge, [], "Swap in use, in bytes";
    MEMORY_FAILURES: "container_memory_failcnt", Memory, Counter, [], "Number of times that the memory limit was met";
    MEMORY_USAGE: "container_memory_usage_bytes", Memory, Gauge, [], "Memory in use whatever for, in bytes";
    MEMORY_MAX: "container_memory_max_usage_bytes", Memory, Gauge, [], "Highest memory usage recorded, in bytes";
    MEMORY_WORKING_SET: "container_memory_working_set_bytes", Memory, Gauge, [], "Memory that cannot be dropped at once, in bytes";
    MEMORY_FAULTS: "container_memory_failures_total", Memory, Counter, ["failure_type", "scope"], "Cumulative count of page faults";
    RECEIVE_BYTES: "container_network_receive_bytes_total", Network, Counter, ["interface"], "Cumulative count of bytes received";
    RECEIVE_PACKETS: "container_network_receive_packets_total", Network, Counter, ["interface"], "Cumulative count of packets received";
    RECEIVE_DROPPED: "container_network_receive_packets_dropped_total", Network, Counter, ["interface"], "Cumulative count of packets dropped while receiving";
    RECEIVE_ERRORS: "container_network_receive_errors_total", Network, Counter, ["interface"], "Cumulative count of errors while receiving";
    TRANSMIT_BYTES: "container_network_transmit_bytes_total", Network, Counter, ["interface"], "Cumulative count of bytes transmitted";
    TRANSMIT_PACKETS: "container_network_transmit_packets_total", Network, Counter, ["interface"], "Cumulative count of packets transmitted";
    TRANSMIT_DROPPED: "container_network_transmit_packets_dropped_total", Network, Counter, ["interface"], "Cumulative count of packets dropped while transmitting";
    TRANSMIT_ERRORS: "container_network_transmit_errors_total", Network, Counter, ["interface"], "Cumulative count of errors while transmitting";
    OOM_EVENTS: "container_oom_events_total", Oom, Counter, [], "Count of processes killed for lack of memory";
    DESCRIPTORS: "container_file_descriptors", Process, Gauge, [], "Number of open file descriptors";
    PROCESSES: "container_processes", Process, Gauge, [], "Number of processes";
    SOCKETS: "container_sockets", Process, Gauge, [], "Number of open sockets";
    THREADS: "container_threads", Process, Gauge, [], "Number of threads";
    THREADS_MAX: "container_threads_max", Process, Gauge, [], "Highest allowed number of threads, 0 for no limit";
    ULIMITS: "container_ulimits_soft", Process, Gauge, ["ulimit"], "Soft limit of the first process";
    SPEC_MEMORY: "container_spec_memory_limit_bytes", Spec, Gauge, [], "Memory limit, in bytes, 0 for none";
    SPEC_PERIOD: "container_spec_cpu_period", Spec, Gauge, [], "CPU period, in microseconds";
    SPEC_SHARES: "container_spec_cpu_shares", Spec, Gauge, [], "CPU share";
    SPEC_QUOTA: "container_spec_cpu_quota", Spec, Gauge, [], "CPU quota, in microseconds";
    SPEC_RESERVATION: "container_spec_memory_reservation_limit_bytes", Spec, Gauge, [], "Memory that is kept for the container, in bytes";
    SPEC_SWAP: "container_spec_memory_swap_limit_bytes", Spec, Gauge, [], "Limit of memory and swap together, in bytes, 0 for none";
    START_TIME: "container_start_time_seconds", Spec, Gauge, [], "Start time of the container, in seconds since the epoch";
    CPU_STALLED: "container_pressure_cpu_stalled_seconds_total", Pressure, Counter, [], "Time in which no task of the container could run for lack of CPU, in seconds";
    CPU_WAITING: "container_pressure_cpu_waiting_seconds_total", Pressure, Counter, [], "Time in which tasks of the container waited for CPU, in seconds";
    MEMORY_STALLED: "container_pressure_memory_stalled_seconds_total", Pressure, Counter, [], "Time in which no task of the container could run for lack of memory, in seconds";
    MEMORY_WAITING: "container_pressure_memory_waiting_seconds_total", Pressure, Counter, [], "Time in which tasks of the container waited for memory, in seconds";
    IO_STALLED: "container_pressure_io_stalled_seconds_total", Pressure, Counter, [], "Time in which no task of the container could run for lack of I/O, in seconds";
    IO_WAITING: "container_pressure_io_waiting_seconds_total", Pressure, Counter, [], "Time in which tasks of the container waited for I/O, in seconds";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn fifty_six_of_them_each_once_and_explained() {
        let all = all();
        let names: HashSet<_> = all.iter().map(|descriptor| &descriptor.name).collect();
        assert_eq!((all.len(), names.len()), (56, 56));
        for descriptor in &all {
            assert!(!descriptor.help.is_empty());
            assert_eq!(descriptor.label_keys[..5], BASE_LABELS);
        }
    }

    #[test]
    fn groups_by_name() {
        assert_eq!(MetricGroup::set([]), BTreeSet::from([MetricGroup::Always]));
        assert_eq!(MetricGroup::set(["all"]).len(), 11);
        let some = MetricGroup::set(["cpu", "diskIO"]);
        assert!(some.contains(&MetricGroup::DiskIo) && !some.contains(&MetricGroup::Disk));
    }
}
