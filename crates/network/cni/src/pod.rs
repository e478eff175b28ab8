//! The pod to be attached, as the runtime describes it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::{Bandwidth, DnsConfig, IpRange, PortMapping};

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
    /// Addresses it asks for, with their prefix lengths.
    pub ips: Vec<IpNet>,
    /// Hardware address it asks for; none when empty.
    pub mac: String,
    /// Ranges its addresses come from: one address of each inner list.
    pub ip_ranges: Vec<Vec<IpRange>>,
    /// Further names it is known by on the network.
    pub aliases: Vec<String>,
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
        let asked = [
            ("IP", self.ips.first().map(|ip| ip.addr().to_string())),
            ("MAC", Some(self.mac.clone()).filter(|mac| !mac.is_empty())),
        ];
        let asked = asked
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        own.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .chain(asked)
            .chain(inherited.iter().cloned())
            .collect()
    }

    /// Everything that could go into `runtimeConfig`; each plugin is given what it declares.
    pub(crate) fn capability_args(&self, network: &str) -> Map<String, Value> {
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
        if !self.ips.is_empty() {
            args.insert("ips".to_owned(), json!(self.ips));
        }
        if !self.mac.is_empty() {
            args.insert("mac".to_owned(), json!(self.mac));
        }
        if !self.ip_ranges.is_empty() {
            args.insert("ipRanges".to_owned(), json!(self.ip_ranges));
        }
        if !self.aliases.is_empty() {
            // By network name, as plugins that serve several networks want it.
            args.insert("aliases".to_owned(), json!({network: self.aliases}));
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
