//! The pod to be attached, as the runtime describes it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::{Bandwidth, DnsConfig, PortMapping};

/// A pod and its network namespace.
#[derive(Debug, Clone, Default)]
pub struct PodNetwork {
    /// Id of the pod sandbox.
    pub id: String,
    /// Name of the pod.
    pub name: String,
    /// Kubernetes namespace of the pod.
    pub namespace: String,
    /// Kubernetes uid of the pod.
    pub uid: String,
    /// Where its network namespace is pinned.
    pub netns: PathBuf,
    /// Interface inside the pod, `eth0`.
    pub ifname: String,
    /// Ports of the host that lead to the pod.
    pub port_mappings: Vec<PortMapping>,
    /// The pod's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its cgroup parent, as the kubelet names it; may be empty.
    pub cgroup_path: String,
    /// Name service settings.
    pub dns: Option<DnsConfig>,
    /// Traffic limits.
    pub bandwidth: Option<Bandwidth>,
}

impl PodNetwork {
    /// `CNI_ARGS`, ended by the ones the daemon inherited.
    pub(crate) fn cni_args(&self, inherited: &[(String, String)]) -> Vec<(String, String)> {
        let own = [
            ("IgnoreUnknown", "1"),
            ("K8S_POD_NAMESPACE", self.namespace.as_str()),
            ("K8S_POD_NAME", self.name.as_str()),
            ("K8S_POD_INFRA_CONTAINER_ID", self.id.as_str()),
            ("K8S_POD_UID", self.uid.as_str()),
        ];
        own.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .chain(inherited.iter().cloned())
            .collect()
    }

    /// Everything that could go into `runtimeConfig`; each plugin is given what it declares.
    pub(crate) fn capability_args(&self) -> Map<String, Value> {
        let mut args = Map::new();
        if !self.port_mappings.is_empty() {
            args.insert("portMappings".to_owned(), json!(self.port_mappings));
        }
        if let Some(bandwidth) = &self.bandwidth {
            args.insert("bandwidth".to_owned(), json!(bandwidth));
        }
        if let Some(dns) = &self.dns {
            args.insert("dns".to_owned(), json!(dns));
        }
        if !self.cgroup_path.is_empty() {
            args.insert("cgroupPath".to_owned(), json!(self.cgroup_path));
        }
        if !self.annotations.is_empty() {
            args.insert(
                "io.kubernetes.cri.pod-annotations".to_owned(),
                json!(self.annotations),
            );
        }
        args
    }
}

/// Reads `CNI_ARGS`; parts without `=` are left out.
pub(crate) fn parse_args(text: &str) -> Vec<(String, String)> {
    text.split(';')
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
