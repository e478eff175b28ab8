//! Usage of containers and pods.

use std::sync::Arc;

use crioxide_cri_api::v1;
use futures_util::future::join_all;

use crate::{
    Engine, EngineError,
    container::Container,
    ops::exits_now as now,
    pod::Pod,
    ports::CgroupStats,
    view::{
        filter::{id_matches, labels_match},
        pod::pairs,
    },
};

impl Engine {
    /// One container's usage.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn container_stats(&self, id: &str) -> Result<v1::ContainerStats, EngineError> {
        let container = self.find_container(id)?;
        Ok(self.read_container(&container).await)
    }

    /// Usage of the living containers that match a filter.
    pub async fn list_container_stats(
        &self,
        filter: Option<&v1::ContainerStatsFilter>,
    ) -> Vec<v1::ContainerStats> {
        let matching: Vec<_> = self
            .inner
            .containers
            .all()
            .into_iter()
            .filter(|c| c.is_alive())
            .filter(|c| {
                filter.is_none_or(|f| {
                    id_matches(c.id.as_str(), &f.id)
                        && id_matches(c.pod.as_str(), &f.pod_sandbox_id)
                        && labels_match(&c.info.labels, &f.label_selector)
                })
            })
            .collect();
        join_all(
            matching
                .iter()
                .map(|container| self.read_container(container)),
        )
        .await
    }

    /// One pod's usage.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn pod_stats(&self, id: &str) -> Result<v1::PodSandboxStats, EngineError> {
        let pod = self.find_pod(id)?;
        Ok(self.read_pod(&pod).await)
    }

    /// Usage of the ready pods that match a filter.
    pub async fn list_pod_stats(
        &self,
        filter: Option<&v1::PodSandboxStatsFilter>,
    ) -> Vec<v1::PodSandboxStats> {
        let matching: Vec<_> = self
            .inner
            .pods
            .all()
            .into_iter()
            .filter(|pod| !pod.is_stopped())
            .filter(|pod| {
                filter.is_none_or(|f| {
                    id_matches(pod.id.as_str(), &f.id)
                        && labels_match(&pod.info.labels, &f.label_selector)
                })
            })
            .collect();
        join_all(matching.iter().map(|pod| self.read_pod(pod))).await
    }

    async fn read_container(&self, container: &Arc<Container>) -> v1::ContainerStats {
        let stats = &self.inner.ports.stats;
        let path = container.cgroups_path();
        let usage = if container.is_alive() {
            stats.cgroup(&path).await.ok().flatten()
        } else {
            None
        };
        let layer = stats.writable_layer(&container.id).await.ok();
        let info = &container.info;
        v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: container.id.to_string(),
                metadata: Some((&info.metadata).into()),
                labels: pairs(&info.labels),
                annotations: pairs(&info.annotations),
            }),
            cpu: usage.as_ref().map(cpu),
            memory: usage.as_ref().map(memory),
            writable_layer: layer.map(|layer| v1::FilesystemUsage {
                timestamp: now(),
                fs_id: Some(v1::FilesystemIdentifier {
                    mountpoint: info.mount_point.clone(),
                }),
                used_bytes: value(layer.bytes),
                inodes_used: value(layer.inodes),
            }),
            swap: usage.as_ref().and_then(swap),
            io: None,
        }
    }

    async fn read_pod(&self, pod: &Arc<Pod>) -> v1::PodSandboxStats {
        let stats = &self.inner.ports.stats;
        let containers: Vec<_> = self
            .containers_of(pod)
            .into_iter()
            .filter(|c| c.is_alive())
            .collect();
        let containers = join_all(
            containers
                .iter()
                .map(|container| self.read_container(container)),
        )
        .await;
        let usage = stats
            .pod_cgroup(&pod.info.cgroup_parent)
            .await
            .ok()
            .flatten();
        let network = match &pod.namespaces.net {
            Some(netns) if !pod.info.host_network => stats.network(netns).await.ok(),
            _ => None,
        };
        v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes {
                id: pod.id.to_string(),
                metadata: Some((&pod.info.metadata).into()),
                labels: pairs(&pod.info.labels),
                annotations: pairs(&pod.info.annotations),
            }),
            linux: Some(v1::LinuxPodSandboxStats {
                cpu: usage.as_ref().map(cpu),
                memory: usage.as_ref().map(memory),
                network: network.map(network_usage),
                process: usage.as_ref().map(|usage| v1::ProcessUsage {
                    timestamp: usage.timestamp,
                    process_count: value(usage.processes),
                }),
                containers,
                io: None,
            }),
            windows: None,
        }
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
        usage_nano_cores: None,
        psi: None,
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
        psi: None,
    }
}

fn swap(usage: &CgroupStats) -> Option<v1::SwapUsage> {
    let used = usage.swap_usage?;
    Some(v1::SwapUsage {
        timestamp: usage.timestamp,
        swap_available_bytes: None,
        swap_usage_bytes: value(used),
    })
}

fn network_usage(interfaces: Vec<v1::NetworkInterfaceUsage>) -> v1::NetworkUsage {
    let default = interfaces
        .iter()
        .find(|interface| interface.name == "eth0")
        .or(interfaces.first())
        .cloned();
    v1::NetworkUsage {
        timestamp: now(),
        default_interface: default,
        interfaces,
    }
}
