//! What is to be mapped, as the configuration says.

use std::net::IpAddr;

use crioxide_cni::{Call, NetworkResult, PluginError, Protocol};
use ipnet::IpNet;
use serde::Deserialize;

use super::NAME;
use crate::configuration::{invalid, read, unsupported};
use crate::rules::{Backend, PacketRules};

/// The bit of packets' marks that the reference plugin uses when none is configured.
const MARK_BIT: u32 = 13;

/// The portmap plugin's keys.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Configuration {
    backend: Option<String>,
    #[serde(default = "yes")]
    snat: bool,
    #[serde(default)]
    masq_all: bool,
    mark_masq_bit: Option<u32>,
    external_set_mark_chain: Option<String>,
    #[serde(default, rename = "conditionsV4")]
    conditions_v4: Option<Vec<String>>,
    #[serde(default, rename = "conditionsV6")]
    conditions_v6: Option<Vec<String>>,
    #[serde(default)]
    runtime_config: RuntimeConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeConfig {
    #[serde(default)]
    port_mappings: Vec<RawMapping>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMapping {
    host_port: u16,
    container_port: u16,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

/// Mappings for one pod.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) ports: Vec<Port>,
    /// The pod's addresses, one of a family.
    pub(super) pods: Vec<IpNet>,
    pub(super) masqueraded: Masqueraded,
    /// What only iptables know.
    pub(super) marks: Marks,
}

/// Whose packets to the pod get the host's address, so that replies come back through the host.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Masqueraded {
    #[default]
    Nobody,
    /// Those of the pod's subnet and of the host's 127.0.0.1.
    Near,
    Everybody,
}

/// How iptables tell packets to masquerade, and which packets are for us.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Bit of our own mark.
    pub(super) bit: u32,
    /// Somebody else's chain that marks packets.
    pub(super) external_chain: Option<String>,
    /// Words of further conditions, IPv4 and IPv6.
    pub(super) conditions: [Vec<String>; 2],
}

/// One port, and where it leads.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub(super) protocol: Protocol,
    /// The one address of the host that it is on.
    pub(super) listens_on: Option<IpAddr>,
    pub(super) host_port: u16,
    pub(super) pod: IpAddr,
    pub(super) container_port: u16,
}

impl Configuration {
    pub(super) fn read(call: &Call<'_>) -> Result<Self, PluginError> {
        let configuration: Self = read(NAME, call)?;
        if configuration.mark_masq_bit.is_some() && configuration.external_set_mark_chain.is_some()
        {
            let reason = "`markMasqBit` and `externalSetMarkChain` cannot be set at the same time";
            return Err(invalid(NAME, reason));
        }
        if configuration.mark_masq_bit.is_some_and(|bit| bit > 31) {
            return Err(invalid(NAME, "`markMasqBit` must be from 0 to 31"));
        }
        Ok(configuration)
    }

    /// The backend asked for, or else one that knows all keys that are set.
    pub(super) fn backend(&self, rules: &PacketRules) -> Result<Backend, PluginError> {
        let conditions = || {
            [&self.conditions_v4, &self.conditions_v6]
                .into_iter()
                .flatten()
        };
        // Those of iptables are its options.
        let of_iptables = |words: &Vec<String>| {
            let first = words.first().map(String::as_str).unwrap_or_default();
            first.starts_with(['-', '!'])
        };
        let needs_iptables =
            self.external_set_mark_chain.is_some() || conditions().any(of_iptables);
        let asked = match self.backend.as_deref() {
            None if needs_iptables => Some("iptables"),
            asked => asked,
        };
        let backend = rules
            .backend(asked)
            .map_err(|reason| invalid(NAME, format!("`backend`: {reason}")))?;
        if backend == Backend::Nftables {
            if needs_iptables {
                let reason =
                    "conditions or a mark chain of iptables are set, but nftables are used";
                return Err(invalid(NAME, reason));
            }
            if conditions().any(|words| words.iter().any(|word| !word.is_empty())) {
                return Err(unsupported(
                    NAME,
                    "conditionsV4` and `conditionsV6` of nftables",
                ));
            }
        } else if conditions().any(|words| !words.is_empty() && !of_iptables(words)) {
            let reason = "conditions of nftables are set, but iptables are used";
            return Err(invalid(NAME, reason));
        }
        Ok(backend)
    }
}

impl Plan {
    pub(super) fn new(
        configuration: &Configuration,
        previous: &NetworkResult,
    ) -> Result<Self, PluginError> {
        let mut plan = Self::default();
        let mappings = &configuration.runtime_config.port_mappings;
        if mappings.is_empty() {
            return Ok(plan);
        }
        let in_pod = |interface: Option<usize>| {
            interface
                .and_then(|at| previous.interfaces.get(at))
                .is_none_or(|link| !link.sandbox.is_empty())
        };
        let of_family = |v4: bool| {
            let pod_ips = previous.ips.iter().filter(|ip| in_pod(ip.interface));
            pod_ips
                .map(|ip| ip.address)
                .find(|address| address.addr().is_ipv4() == v4)
        };
        for address in [of_family(true), of_family(false)].into_iter().flatten() {
            for mapping in mappings {
                plan.ports.extend(mapping.port(address.addr())?);
            }
            plan.pods.push(address);
        }
        if plan.ports.is_empty() {
            return Err(invalid(
                NAME,
                "the pod has no address in the family of its host ports",
            ));
        }
        plan.masqueraded = match (configuration.snat, configuration.masq_all) {
            (false, _) => Masqueraded::Nobody,
            (true, false) => Masqueraded::Near,
            (true, true) => Masqueraded::Everybody,
        };
        plan.marks = Marks {
            bit: configuration.mark_masq_bit.unwrap_or(MARK_BIT),
            external_chain: configuration.external_set_mark_chain.clone(),
            conditions: [&configuration.conditions_v4, &configuration.conditions_v6]
                .map(|words| words.clone().unwrap_or_default()),
        };
        Ok(plan)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// The pod's IPv4 address when packets of the host itself are masqueraded.
    pub(super) fn masqueraded_v4(&self) -> Option<IpAddr> {
        let mut addresses = self.pods.iter().map(IpNet::addr);
        addresses
            .find(IpAddr::is_ipv4)
            .filter(|_| self.masqueraded != Masqueraded::Nobody)
    }
}

impl Port {
    /// For messages: `tcp port 80 of 192.0.2.1`.
    pub(super) fn label(&self) -> String {
        let host = self
            .listens_on
            .map_or_else(|| "the host".to_owned(), |address| address.to_string());
        format!("{} port {} of {host}", self.protocol_name(), self.host_port)
    }

    pub(super) fn protocol_name(&self) -> &'static str {
        match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl RawMapping {
    /// The mapping to a pod's address; none when it listens on an address of the other family.
    fn port(&self, pod: IpAddr) -> Result<Option<Port>, PluginError> {
        if self.host_port == 0 || self.container_port == 0 {
            return Err(invalid(
                NAME,
                "`portMappings`: ports must be from 1 to 65535",
            ));
        }
        let protocol = self.protocol()?;
        let listens_on: Option<IpAddr> = match self.host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                let shown = text.escape_default();
                invalid(
                    NAME,
                    format!("`portMappings`: hostIP `{shown}` is not an address"),
                )
            })?),
        };
        if listens_on.is_some_and(|address| address.is_ipv4() != pod.is_ipv4()) {
            return Ok(None);
        }
        Ok(Some(Port {
            protocol,
            listens_on: listens_on.filter(|address| !address.is_unspecified()),
            host_port: self.host_port,
            pod,
            container_port: self.container_port,
        }))
    }

    fn protocol(&self) -> Result<Protocol, PluginError> {
        Ok(match self.protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => {
                let shown = self.protocol.escape_default();
                let reason = format!("`portMappings`: unknown protocol `{shown}`");
                return Err(invalid(NAME, reason));
            }
        })
    }
}

fn yes() -> bool {
    true
}
