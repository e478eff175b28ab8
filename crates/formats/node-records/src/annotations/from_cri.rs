//! Conversions between the CRI's messages and the values in annotations.

use crioxide_cri_api::v1;

use super::values::{
    ContainerMetadata, HugepageLimit, IdMapping, LinuxResources, NamespaceOptions, SandboxMetadata,
    UserNamespace, Volume,
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

impl From<&LinuxResources> for v1::LinuxContainerResources {
    fn from(resources: &LinuxResources) -> Self {
        let hugepage_limits = resources.hugepage_limits.iter();
        Self {
            cpu_period: resources.cpu_period,
            cpu_quota: resources.cpu_quota,
            cpu_shares: resources.cpu_shares,
            memory_limit_in_bytes: resources.memory_limit_in_bytes,
            oom_score_adj: resources.oom_score_adj,
            cpuset_cpus: resources.cpuset_cpus.clone(),
            cpuset_mems: resources.cpuset_mems.clone(),
            hugepage_limits: hugepage_limits
                .map(|limit| v1::HugepageLimit {
                    page_size: limit.page_size.clone(),
                    limit: limit.limit,
                })
                .collect(),
            unified: resources.unified.clone().into_iter().collect(),
            memory_swap_limit_in_bytes: resources.memory_swap_limit_in_bytes,
        }
    }
}

/// The mount as `ContainerStatus` echoes it.
impl From<&Volume> for v1::Mount {
    fn from(volume: &Volume) -> Self {
        Self {
            container_path: volume.container_path.clone(),
            host_path: volume.host_path.clone(),
            readonly: volume.readonly,
            selinux_relabel: volume.selinux_relabel,
            propagation: volume.propagation,
            recursive_read_only: volume.recursive_read_only,
            image: volume.image.as_ref().map(|image| v1::ImageSpec {
                image: image.image.clone(),
                user_specified_image: image.user_specified_image.clone(),
                ..v1::ImageSpec::default()
            }),
            ..v1::Mount::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_options_survive() {
        let mapping = v1::IdMapping {
            host_id: 65536,
            container_id: 0,
            length: 10,
        };
        let user = v1::UserNamespace {
            mode: 0,
            uids: vec![mapping],
            gids: vec![mapping],
        };
        let cri = v1::NamespaceOption {
            network: 2,
            pid: 3,
            ipc: 1,
            target_id: "t".into(),
            userns_options: Some(user),
        };
        assert_eq!(
            v1::NamespaceOption::from(&NamespaceOptions::from(&cri)),
            cri
        );
    }

    #[test]
    fn resources_survive() {
        let cri = v1::LinuxContainerResources {
            cpu_period: 1,
            cpu_quota: 2,
            cpu_shares: 3,
            memory_limit_in_bytes: 4,
            oom_score_adj: 5,
            cpuset_cpus: "0".into(),
            cpuset_mems: "1".into(),
            hugepage_limits: vec![v1::HugepageLimit {
                page_size: "2MB".into(),
                limit: 6,
            }],
            unified: [("memory.high".to_owned(), "7".to_owned())].into(),
            memory_swap_limit_in_bytes: 8,
        };
        assert_eq!(
            v1::LinuxContainerResources::from(&LinuxResources::from(&cri)),
            cri
        );
    }

    #[test]
    fn metadata_survives() {
        let pod = v1::PodSandboxMetadata {
            name: "web".into(),
            uid: "u".into(),
            namespace: "default".into(),
            attempt: 3,
        };
        assert_eq!(
            v1::PodSandboxMetadata::from(&SandboxMetadata::from(&pod)),
            pod
        );
        let container = v1::ContainerMetadata {
            name: "c".into(),
            attempt: 4,
        };
        assert_eq!(
            v1::ContainerMetadata::from(&ContainerMetadata::from(&container)),
            container
        );
    }
}
