//! Conversions between the CRI's messages and the values in annotations.

use crioxide_cri_api::v1;

use super::values::{
    ContainerMetadata, HugepageLimit, IdMapping, LinuxResources, NamespaceOptions, SandboxMetadata,
    UserNamespace,
};

impl From<&v1::PodSandboxMetadata> for SandboxMetadata {
    fn from(cri: &v1::PodSandboxMetadata) -> Self {
        Self {
            name: cri.name.clone(),
            uid: cri.uid.clone(),
            namespace: cri.namespace.clone(),
            attempt: cri.attempt,
        }
    }
}

impl From<&SandboxMetadata> for v1::PodSandboxMetadata {
    fn from(metadata: &SandboxMetadata) -> Self {
        Self {
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            namespace: metadata.namespace.clone(),
            attempt: metadata.attempt,
        }
    }
}

impl From<&v1::ContainerMetadata> for ContainerMetadata {
    fn from(cri: &v1::ContainerMetadata) -> Self {
        Self {
            name: cri.name.clone(),
            attempt: cri.attempt,
        }
    }
}

impl From<&ContainerMetadata> for v1::ContainerMetadata {
    fn from(metadata: &ContainerMetadata) -> Self {
        Self {
            name: metadata.name.clone(),
            attempt: metadata.attempt,
        }
    }
}

impl From<&v1::IdMapping> for IdMapping {
    fn from(cri: &v1::IdMapping) -> Self {
        Self {
            host_id: cri.host_id,
            container_id: cri.container_id,
            length: cri.length,
        }
    }
}

impl From<&IdMapping> for v1::IdMapping {
    fn from(mapping: &IdMapping) -> Self {
        Self {
            host_id: mapping.host_id,
            container_id: mapping.container_id,
            length: mapping.length,
        }
    }
}

impl From<&v1::NamespaceOption> for NamespaceOptions {
    fn from(cri: &v1::NamespaceOption) -> Self {
        Self {
            network: cri.network,
            pid: cri.pid,
            ipc: cri.ipc,
            target_id: cri.target_id.clone(),
            userns_options: cri.userns_options.as_ref().map(|user| UserNamespace {
                mode: user.mode,
                uids: user.uids.iter().map(IdMapping::from).collect(),
                gids: user.gids.iter().map(IdMapping::from).collect(),
            }),
        }
    }
}

impl From<&NamespaceOptions> for v1::NamespaceOption {
    fn from(options: &NamespaceOptions) -> Self {
        Self {
            network: options.network,
            pid: options.pid,
            ipc: options.ipc,
            target_id: options.target_id.clone(),
            userns_options: options
                .userns_options
                .as_ref()
                .map(|user| v1::UserNamespace {
                    mode: user.mode,
                    uids: user.uids.iter().map(v1::IdMapping::from).collect(),
                    gids: user.gids.iter().map(v1::IdMapping::from).collect(),
                }),
        }
    }
}

impl From<&v1::LinuxContainerResources> for LinuxResources {
    fn from(cri: &v1::LinuxContainerResources) -> Self {
        Self {
            cpu_period: cri.cpu_period,
            cpu_quota: cri.cpu_quota,
            cpu_shares: cri.cpu_shares,
            memory_limit_in_bytes: cri.memory_limit_in_bytes,
            oom_score_adj: cri.oom_score_adj,
            cpuset_cpus: cri.cpuset_cpus.clone(),
            cpuset_mems: cri.cpuset_mems.clone(),
            hugepage_limits: cri
                .hugepage_limits
                .iter()
                .map(|limit| HugepageLimit {
                    page_size: limit.page_size.clone(),
                    limit: limit.limit,
                })
                .collect(),
            unified: cri
                .unified
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            memory_swap_limit_in_bytes: cri.memory_swap_limit_in_bytes,
        }
    }
}
