//! Usage of containers and pods.

use std::path::Path;
use std::sync::Arc;

use crioxide_cri_api::v1;

use crate::{
    Engine, EngineError,
    container::Container,
    pod::Pod,
    ports::{
        CgroupName, CgroupStats, NetworkStats, Pressure, Stalled, StatsReading, StatsTarget, Usage,
    },
    view::{
        filter::{id_matches, labels_match},
        pod::pairs,
    },
};

/// The interface of a pod's own network.
const DEFAULT_INTERFACE: &str = "eth0";

impl Engine {
    /// One container's usage.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn container_stats(&self, id: &str) -> Result<v1::ContainerStats, EngineError> {
        let container = self.find_container(id)?;
        let mut stats = self.read_containers(&[container]).await;
        Ok(stats.pop().unwrap_or_default())
    }

    /// Usage of the living containers that match a filter.
    pub async fn list_container_stats(
        &self,
        filter: Option<&v1::ContainerStatsFilter>,
    ) -> Vec<v1::ContainerStats> {
        let mut matching = self.inner.containers.all();
        matching.retain(|c| {
            c.is_alive()
                && filter.is_none_or(|f| {
                    id_matches(c.id.as_str(), &f.id)
                        && id_matches(c.pod.as_str(), &f.pod_sandbox_id)
                        && labels_match(&c.info.labels, &f.label_selector)
                })
        });
        self.read_containers(&matching).await
    }

    /// One pod's usage.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn pod_stats(&self, id: &str) -> Result<v1::PodSandboxStats, EngineError> {
        let pod = self.find_pod(id)?;
        let mut stats = self.read_pods(&[pod]).await;
        Ok(stats.pop().unwrap_or_default())
    }

    /// Usage of the ready pods that match a filter.
    pub async fn list_pod_stats(
        &self,
        filter: Option<&v1::PodSandboxStatsFilter>,
    ) -> Vec<v1::PodSandboxStats> {
        let mut matching = self.inner.pods.all();
        matching.retain(|pod| {
            !pod.is_stopped()
                && filter.is_none_or(|f| {
                    id_matches(pod.id.as_str(), &f.id)
                        && labels_match(&pod.info.labels, &f.label_selector)
                })
        });
        self.read_pods(&matching).await
    }

    async fn read_containers(&self, containers: &[Arc<Container>]) -> Vec<v1::ContainerStats> {
        let targets = containers.iter().map(|c| container_target(c)).collect();
        let readings = self.inner.ports.stats.read(targets).await;
        let read = containers.iter().zip(readings);
        read.map(|(container, reading)| container_stats(container, &reading))
            .collect()
    }

    async fn read_pods(&self, pods: &[Arc<Pod>]) -> Vec<v1::PodSandboxStats> {
        let containers: Vec<Vec<_>> = pods.iter().map(|pod| self.living_of(pod)).collect();
        let of_pods = pods.iter().map(|pod| pod_target(pod));
        let of_containers = containers.iter().flatten().map(|c| container_target(c));
        let targets = of_pods.chain(of_containers).collect();
        let mut readings = self.inner.ports.stats.read(targets).await.into_iter();
        let of_pods: Vec<_> = readings.by_ref().take(pods.len()).collect();
        let pods = pods.iter().zip(of_pods).zip(containers);
        pods.map(|((pod, reading), containers)| {
            let containers = containers
                .iter()
                .zip(readings.by_ref())
                .map(|(container, reading)| container_stats(container, &reading));
            let containers = containers.collect();
            pod_stats(pod, reading, containers)
        })
        .collect()
    }

    pub(crate) fn living_of(&self, pod: &Pod) -> Vec<Arc<Container>> {
        let mut containers = self.containers_of(pod);
        containers.retain(|container| container.is_alive());
        containers
    }
}

pub(crate) fn container_target(container: &Container) -> StatsTarget {
    let cgroup = || CgroupName::Container(container.cgroups_path());
    StatsTarget {
        id: container.id.to_string(),
        cgroup: container.is_alive().then(cgroup),
        layer: true,
        netns: None,
    }
}

pub(crate) fn pod_target(pod: &Pod) -> StatsTarget {
    let parent = &pod.info.cgroup_parent;
    let cgroup = || CgroupName::Pod(parent.clone());
    StatsTarget {
        id: pod.id.to_string(),
        cgroup: (!pod.is_stopped() && !parent.is_empty()).then(cgroup),
        layer: false,
        netns: match pod.info.host_network {
            true => None,
            false => pod.namespaces.net.clone(),
        },
    }
}

fn container_stats(container: &Container, reading: &StatsReading) -> v1::ContainerStats {
    let info = &container.info;
    let usage = reading.cgroup.as_ref();
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: container.id.to_string(),
            metadata: Some((&info.metadata).into()),
            labels: pairs(&info.labels),
            annotations: pairs(&info.annotations),
        }),
        cpu: usage.map(cpu),
        memory: usage.map(memory),
        writable_layer: reading.layer.map(|usage| layer(usage, &info.mount_point)),
        swap: usage.and_then(swap),
        io: usage.and_then(io),
    }
}

fn pod_stats(
    pod: &Pod,
    reading: StatsReading,
    containers: Vec<v1::ContainerStats>,
) -> v1::PodSandboxStats {
    let usage = reading.cgroup.as_ref();
    v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: pod.id.to_string(),
            metadata: Some((&pod.info.metadata).into()),
            labels: pairs(&pod.info.labels),
            annotations: pairs(&pod.info.annotations),
        }),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: usage.map(cpu),
            memory: usage.map(memory),
            process: usage.map(|usage| v1::ProcessUsage {
                timestamp: usage.timestamp,
                process_count: value(usage.processes),
            }),
            io: usage.and_then(io),
            network: reading.network.map(network),
            containers,
        }),
        windows: None,
    }
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "CRI wraps every counter in an optional message"
)]
fn value(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn cpu(usage: &CgroupStats) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp: usage.timestamp,
        usage_core_nano_seconds: value(usage.cpu_usage),
        usage_nano_cores: usage.cpu_rate.and_then(value),
        psi: usage.cpu_pressure.map(psi),
    }
}

fn memory(usage: &CgroupStats) -> v1::MemoryUsage {
    v1::MemoryUsage {
        timestamp: usage.timestamp,
        working_set_bytes: value(usage.working_set),
        available_bytes: value(
            usage
                .memory_limit
                .map_or(0, |limit| limit.saturating_sub(usage.working_set)),
        ),
        usage_bytes: value(usage.memory_usage),
        rss_bytes: value(usage.rss),
        page_faults: value(usage.page_faults),
        major_page_faults: value(usage.major_page_faults),
        psi: usage.memory_pressure.map(psi),
    }
}

fn swap(usage: &CgroupStats) -> Option<v1::SwapUsage> {
    let used = usage.swap_usage?;
    Some(v1::SwapUsage {
        timestamp: usage.timestamp,
        swap_available_bytes: usage
            .swap_limit
            .and_then(|limit| value(limit.saturating_sub(used))),
        swap_usage_bytes: value(used),
    })
}

fn io(usage: &CgroupStats) -> Option<v1::IoUsage> {
    Some(v1::IoUsage {
        timestamp: usage.timestamp,
        psi: Some(psi(usage.io_pressure?)),
    })
}

fn psi(pressure: Pressure) -> v1::PsiStats {
    let data = |stalled: Stalled| v1::PsiData {
        total: stalled.total,
        avg10: stalled.avg10,
        avg60: stalled.avg60,
        avg300: stalled.avg300,
    };
    v1::PsiStats {
        full: Some(data(pressure.full)),
        some: Some(data(pressure.some)),
    }
}

/// The file system is named by the directory that holds the mount point: it is the one whose space is used. The overlay
/// itself says nothing to the kubelet, whose table of file systems does not have what was mounted after its start.
fn layer(usage: Usage, mount_point: &str) -> v1::FilesystemUsage {
    let holder = Path::new(mount_point).parent();
    v1::FilesystemUsage {
        timestamp: usage.timestamp,
        fs_id: holder.map(|holder| v1::FilesystemIdentifier {
            mountpoint: holder.to_string_lossy().into_owned(),
        }),
        used_bytes: value(usage.bytes),
        inodes_used: value(usage.inodes),
    }
}

fn network(network: NetworkStats) -> v1::NetworkUsage {
    let interfaces: Vec<_> = network
        .interfaces
        .into_iter()
        .map(|interface| v1::NetworkInterfaceUsage {
            name: interface.name,
            rx_bytes: value(interface.received.bytes),
            rx_errors: value(interface.received.errors),
            tx_bytes: value(interface.sent.bytes),
            tx_errors: value(interface.sent.errors),
        })
        .collect();
    let default = interfaces
        .iter()
        .find(|interface| interface.name == DEFAULT_INTERFACE)
        .or(interfaces.first())
        .cloned();
    v1::NetworkUsage {
        timestamp: network.timestamp,
        default_interface: default,
        interfaces,
    }
}
