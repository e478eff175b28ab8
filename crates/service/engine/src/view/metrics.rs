//! CRI's pod metrics: what cAdvisor tells of containers, told by the runtime.

mod descriptors;

use std::{collections::BTreeSet, sync::Arc};

use crioxide_cri_api::v1;
use crioxide_node_records::go_time;

pub use descriptors::MetricGroup;
use descriptors::{self as metric, Descriptor};

use crate::{
    Engine,
    container::Container,
    ops::now_nanoseconds,
    pod::Pod,
    ports::{InterfaceStats, Pressure, StatsDetail},
    view::{container_target, pod_target},
};

const SECOND: u64 = 1_000_000_000;
/// The kernel's period where none is set, microseconds.
const DEFAULT_PERIOD: i64 = 100_000;
/// The kernel's share where none is set.
const DEFAULT_SHARES: i64 = 1024;
/// What the sandbox itself is called among the containers of a pod.
const SANDBOX: &str = "POD";

impl Engine {
    /// All metrics that there can be.
    #[must_use]
    pub fn metric_descriptors(&self) -> Vec<v1::MetricDescriptor> {
        metric::all()
    }

    /// The present metrics of all ready pods.
    pub async fn pod_metrics(&self) -> Vec<v1::PodSandboxMetrics> {
        let mut pods = self.inner.pods.all();
        pods.retain(|pod| !pod.is_stopped());
        let containers: Vec<_> = pods.iter().map(|pod| self.living_of(pod)).collect();
        let of_pods = pods.iter().map(|pod| pod_target(pod));
        let of_containers = containers.iter().flatten().map(|c| container_target(c));
        let targets = of_pods.chain(of_containers).collect();
        let mut details = self.inner.ports.stats.detail(targets).await.into_iter();
        let of_pods: Vec<_> = details.by_ref().take(pods.len()).collect();
        let groups = &self.inner.settings.pod_metrics;
        let metrics = pods.iter().zip(of_pods).zip(&containers);
        metrics
            .map(|((pod, detail), containers)| {
                let of_containers = containers.iter().zip(details.by_ref());
                v1::PodSandboxMetrics {
                    pod_sandbox_id: pod.id.to_string(),
                    container_metrics: of_containers
                        .map(|(container, detail)| v1::ContainerMetrics {
                            container_id: container.id.to_string(),
                            metrics: of_container(pod, container, &detail, groups),
                        })
                        .collect(),
                    metrics: of_pod(pod, &detail, groups),
                }
            })
            .collect()
    }
}

fn of_pod(pod: &Pod, detail: &StatsDetail, groups: &BTreeSet<MetricGroup>) -> Vec<v1::Metric> {
    let info = &pod.info;
    let base = [
        pod.id.as_str(),
        "",
        &info.namespace,
        &info.kube_name,
        SANDBOX,
    ];
    let mut samples = Samples::new(base, groups);
    for interface in detail
        .network
        .iter()
        .flat_map(|network| &network.interfaces)
    {
        samples.network(interface);
    }
    samples.metrics
}

fn of_container(
    pod: &Pod,
    container: &Arc<Container>,
    detail: &StatsDetail,
    groups: &BTreeSet<MetricGroup>,
) -> Vec<v1::Metric> {
    let info = &container.info;
    let base = [
        container.id.as_str(),
        &info.image,
        &pod.info.namespace,
        &pod.info.kube_name,
        &info.metadata.name,
    ];
    let mut samples = Samples::new(base, groups);
    samples.add(&metric::LAST_SEEN, &[], samples.seconds());
    samples.cpu(detail);
    samples.disk(detail);
    samples.memory(detail);
    samples.put(&metric::OOM_EVENTS, detail.oom_kills);
    samples.processes(detail);
    samples.spec(container, detail);
    samples.pressure(detail);
    samples.metrics
}

/// Samples of one pod or container.
struct Samples<'a> {
    base: [&'a str; 5],
    groups: &'a BTreeSet<MetricGroup>,
    timestamp: i64,
    metrics: Vec<v1::Metric>,
}

impl<'a> Samples<'a> {
    fn new(base: [&'a str; 5], groups: &'a BTreeSet<MetricGroup>) -> Self {
        Self {
            base,
            groups,
            timestamp: now_nanoseconds(),
            metrics: Vec::new(),
        }
    }

    fn seconds(&self) -> u64 {
        self.timestamp.unsigned_abs() / SECOND
    }

    /// A sample; `extra` are the values of the metric's own labels.
    fn add(&mut self, of: &Descriptor, extra: &[&str], value: u64) {
        debug_assert_eq!(of.labels.len(), extra.len(), "{}", of.name);
        if self.groups.contains(&of.group) {
            let labels = self.base.iter().chain(extra);
            self.metrics.push(v1::Metric {
                name: of.name.to_owned(),
                timestamp: self.timestamp,
                metric_type: of.kind.into(),
                label_values: labels.map(|value| (*value).to_owned()).collect(),
                value: Some(v1::UInt64Value { value }),
            });
        }
    }

    /// A sample without labels of its own, if the kernel tells the value.
    fn put(&mut self, of: &Descriptor, value: Option<u64>) {
        if let Some(value) = value {
            self.add(of, &[], value);
        }
    }

    fn network(&mut self, of: &InterfaceStats) {
        let (received, sent) = (of.received, of.sent);
        for (of_kind, value) in [
            (&metric::RECEIVE_BYTES, received.bytes),
            (&metric::RECEIVE_PACKETS, received.packets),
            (&metric::RECEIVE_DROPPED, received.dropped),
            (&metric::RECEIVE_ERRORS, received.errors),
            (&metric::TRANSMIT_BYTES, sent.bytes),
            (&metric::TRANSMIT_PACKETS, sent.packets),
            (&metric::TRANSMIT_DROPPED, sent.dropped),
            (&metric::TRANSMIT_ERRORS, sent.errors),
        ] {
            self.add(of_kind, &[&of.name], value);
        }
    }

    fn cpu(&mut self, detail: &StatsDetail) {
        let cpu = &detail.cpu;
        let seconds = |nanoseconds: Option<u64>| nanoseconds.map(|time| time / SECOND);
        self.put(&metric::CPU_USER, seconds(cpu.user));
        self.put(&metric::CPU_SYSTEM, seconds(cpu.system));
        if let Some(cgroup) = &detail.cgroup {
            self.add(&metric::CPU_USAGE, &["total"], cgroup.cpu_usage / SECOND);
        }
        for (index, used) in cpu.per_cpu.iter().enumerate() {
            self.add(
                &metric::CPU_USAGE,
                &[&format!("cpu{index:02}")],
                used / SECOND,
            );
        }
        self.put(&metric::CFS_PERIODS, cpu.periods);
        self.put(&metric::CFS_THROTTLED, cpu.throttled_periods);
        self.put(&metric::CFS_THROTTLED_TIME, seconds(cpu.throttled));
    }

    fn disk(&mut self, detail: &StatsDetail) {
        if let Some(disk) = detail.disk {
            self.add(&metric::INODES_FREE, &[], disk.free_inodes);
            self.add(&metric::INODES_TOTAL, &[], disk.inodes);
            self.add(&metric::FS_LIMIT, &[], disk.bytes);
        }
        self.put(&metric::FS_USAGE, detail.layer.map(|layer| layer.bytes));
        for io in &detail.io {
            let name = [io.name.as_str()];
            self.add(&metric::FS_READ_BYTES, &name, io.read_bytes);
            self.add(&metric::FS_READS, &name, io.reads);
            self.add(&metric::FS_WRITE_BYTES, &name, io.written_bytes);
            self.add(&metric::FS_WRITES, &name, io.writes);
            let (major, minor) = (io.device.0.to_string(), io.device.1.to_string());
            for (operation, bytes) in [("Read", io.read_bytes), ("Write", io.written_bytes)] {
                let labels = [io.name.as_str(), &major, &minor, operation];
                self.add(&metric::BLKIO, &labels, bytes);
            }
        }
        for pages in &detail.huge_pages {
            self.add(&metric::HUGETLB_USAGE, &[&pages.size], pages.usage);
            if let Some(max) = pages.max_usage {
                self.add(&metric::HUGETLB_MAX, &[&pages.size], max);
            }
        }
    }

    fn memory(&mut self, detail: &StatsDetail) {
        let memory = &detail.memory;
        self.put(&metric::MEMORY_CACHE, memory.cache);
        self.put(&metric::MEMORY_KERNEL, memory.kernel);
        self.put(&metric::MEMORY_MAPPED, memory.mapped_file);
        self.put(&metric::MEMORY_FAILURES, memory.failures);
        self.put(&metric::MEMORY_MAX, memory.max_usage);
        let Some(cgroup) = &detail.cgroup else { return };
        self.add(&metric::MEMORY_RSS, &[], cgroup.rss);
        self.add(&metric::MEMORY_SWAP, &[], cgroup.swap_usage.unwrap_or(0));
        self.add(&metric::MEMORY_USAGE, &[], cgroup.memory_usage);
        self.add(&metric::MEMORY_WORKING_SET, &[], cgroup.working_set);
        let own = [
            ("pgfault", memory.page_faults),
            ("pgmajfault", memory.major_page_faults),
        ];
        for (kind, faults) in own {
            if let Some(faults) = faults {
                self.add(&metric::MEMORY_FAULTS, &[kind, "container"], faults);
            }
        }
        let (all, major) = (cgroup.page_faults, cgroup.major_page_faults);
        self.add(&metric::MEMORY_FAULTS, &["pgfault", "hierarchy"], all);
        self.add(&metric::MEMORY_FAULTS, &["pgmajfault", "hierarchy"], major);
    }

    fn processes(&mut self, detail: &StatsDetail) {
        let Some(of) = detail.processes else { return };
        self.add(&metric::DESCRIPTORS, &[], of.descriptors);
        self.add(&metric::PROCESSES, &[], of.processes);
        self.add(&metric::SOCKETS, &[], of.sockets);
        self.add(&metric::THREADS, &[], of.threads);
        self.add(&metric::THREADS_MAX, &[], of.threads_max);
        if let Some(limit) = of.max_open_files {
            self.add(&metric::ULIMITS, &["max_open_files"], limit);
        }
    }

    fn spec(&mut self, container: &Container, detail: &StatsDetail) {
        let limits = container
            .resources
            .read()
            .expect("no holder of this lock panics")
            .clone();
        let or = |value: i64, default: i64| match value {
            set if set > 0 => set.unsigned_abs(),
            _ => default.unsigned_abs(),
        };
        self.add(
            &metric::SPEC_MEMORY,
            &[],
            or(limits.memory_limit_in_bytes, 0),
        );
        self.add(
            &metric::SPEC_PERIOD,
            &[],
            or(limits.cpu_period, DEFAULT_PERIOD),
        );
        self.add(
            &metric::SPEC_SHARES,
            &[],
            or(limits.cpu_shares, DEFAULT_SHARES),
        );
        if limits.cpu_quota > 0 {
            self.add(&metric::SPEC_QUOTA, &[], limits.cpu_quota.unsigned_abs());
        }
        let reservation = detail.memory.reservation.unwrap_or(0);
        self.add(&metric::SPEC_RESERVATION, &[], reservation);
        self.add(
            &metric::SPEC_SWAP,
            &[],
            or(limits.memory_swap_limit_in_bytes, 0),
        );
        let started = go_time::unix_nanoseconds(container.state.borrow().started);
        let started = u64::try_from(started).unwrap_or(0) / SECOND;
        self.add(&metric::START_TIME, &[], started);
    }

    fn pressure(&mut self, detail: &StatsDetail) {
        let Some(cgroup) = &detail.cgroup else { return };
        let mut add = |stalled: &Descriptor, waiting: &Descriptor, pressure: Option<Pressure>| {
            if let Some(pressure) = pressure {
                self.add(stalled, &[], pressure.full.total / 1_000_000);
                self.add(waiting, &[], pressure.some.total / 1_000_000);
            }
        };
        add(
            &metric::CPU_STALLED,
            &metric::CPU_WAITING,
            cgroup.cpu_pressure,
        );
        add(
            &metric::MEMORY_STALLED,
            &metric::MEMORY_WAITING,
            cgroup.memory_pressure,
        );
        add(&metric::IO_STALLED, &metric::IO_WAITING, cgroup.io_pressure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{CgroupStats, DeviceIo, HugePages, ProcessDetail};

    #[test]
    fn labels_and_values_stand_side_by_side() {
        let detail = StatsDetail {
            cgroup: Some(CgroupStats {
                cpu_usage: 3 * SECOND + 1,
                io_pressure: Some(Pressure::default()),
                ..CgroupStats::default()
            }),
            io: vec![DeviceIo::default()],
            huge_pages: vec![HugePages {
                max_usage: Some(1),
                ..HugePages::default()
            }],
            processes: Some(ProcessDetail {
                max_open_files: Some(1024),
                ..ProcessDetail::default()
            }),
            ..StatsDetail::default()
        };
        let groups = MetricGroup::set(["all"]);
        let mut samples = Samples::new(["id", "image", "ns", "pod", "name"], &groups);
        samples.cpu(&detail);
        samples.disk(&detail);
        samples.memory(&detail);
        samples.processes(&detail);
        samples.pressure(&detail);
        samples.network(&InterfaceStats::default());
        let descriptors = metric::all();
        for sample in &samples.metrics {
            let known = descriptors.iter().find(|known| known.name == sample.name);
            assert_eq!(known.unwrap().label_keys.len(), sample.label_values.len());
        }
        let total = samples
            .metrics
            .iter()
            .find(|sample| sample.name == "container_cpu_usage_seconds_total")
            .unwrap();
        assert_eq!(
            total.label_values,
            ["id", "image", "ns", "pod", "name", "total"]
        );
        assert_eq!(total.value.unwrap().value, 3);
    }

    #[test]
    fn groups_that_are_not_asked_for_are_not_told() {
        let groups = MetricGroup::set([]);
        let mut samples = Samples::new([""; 5], &groups);
        samples.network(&InterfaceStats::default());
        samples.add(&metric::LAST_SEEN, &[], 1);
        assert_eq!(samples.metrics.len(), 1);
    }
}
