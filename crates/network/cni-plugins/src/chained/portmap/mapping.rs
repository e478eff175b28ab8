//! What is to be mapped: the configuration's port mappings as elements of sets and maps.

use std::net::{IpAddr, Ipv4Addr};

use crioxide_cni::{Call, NetworkResult, PluginError, Protocol};
use crioxide_netlink::nft::{Element, Family};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::NAME;
use super::rules::{ADDRESS_PORTS, PORTS, hairpin_set};
use crate::configuration::{invalid, read, unsupported};
use crate::rules::masquerade::{address_key, family};

/// Number of UDP in IP headers.
const UDP: u8 = 17;

/// The portmap plugin's keys.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Configuration {
    #[serde(default = "yes")]
    snat: bool,
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

/// Elements for one pod.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) entries: Vec<Entry>,
    /// The pod's IPv4 address when packets of the host itself are masqueraded.
    pub(super) masqueraded_v4: Option<IpAddr>,
    /// Subnets that hairpin rules are needed for.
    pub(super) subnets: Vec<IpNet>,
}

/// One element, and where it goes.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) family: Family,
    pub(super) set: String,
    pub(super) key: Vec<u8>,
    pub(super) data: Vec<u8>,
    /// The host's port when it is a UDP one.
    pub(super) udp_port: Option<u16>,
    /// For messages: `tcp port 80 of 192.0.2.1`.
    pub(super) label: String,
}

impl Configuration {
    pub(super) fn read(call: &Call<'_>) -> Result<Self, PluginError> {
        for key in ["conditionsV4", "conditionsV6"] {
            if call
                .config
                .get(key)
                .and_then(Value::as_array)
                .is_some_and(|rules| !rules.is_empty())
            {
                return Err(unsupported(NAME, key));
            }
        }
        if call.config.get("backend").and_then(Value::as_str) == Some("iptables") {
            return Err(unsupported(NAME, "backend"));
        }
        read(NAME, call)
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
                plan.entries.extend(mapping.entry(address)?);
            }
            if configuration.snat {
                plan.add_hairpin(address);
            }
        }
        if !plan
            .entries
            .iter()
            .any(|entry| entry.set == PORTS || entry.set == ADDRESS_PORTS)
        {
            return Err(invalid(
                NAME,
                "the pod has no address in the family of its host ports",
            ));
        }
        Ok(plan)
    }

    /// Replies must come back through the host, also to pods of the same subnet, to the pod itself
    /// and to the host's own 127.0.0.1.
    fn add_hairpin(&mut self, address: IpNet) {
        let pod = address_key(address.addr());
        let mut sources = vec![address.network()];
        if let IpNet::V4(network) = address {
            let localhost = Ipv4Addr::LOCALHOST.to_bits() & network.netmask().to_bits();
            sources.push(IpAddr::V4(Ipv4Addr::from_bits(localhost)));
            self.masqueraded_v4 = Some(address.addr());
        }
        for source in sources {
            self.entries.push(Entry {
                family: family(address.addr()),
                set: hairpin_set(address.prefix_len()),
                key: [address_key(source), pod.clone()].concat(),
                data: Vec::new(),
                udp_port: None,
                label: format!("hairpin to {}", address.addr()),
            });
        }
        self.subnets.push(address);
    }
}

impl RawMapping {
    /// The mapping to a pod's address; none when it listens on an address of the other family.
    fn entry(&self, pod: IpNet) -> Result<Option<Entry>, PluginError> {
        if self.host_port == 0 || self.container_port == 0 {
            return Err(invalid(
                NAME,
                "`portMappings`: ports must be from 1 to 65535",
            ));
        }
        let protocol = self.protocol()?;
        let listens_on: Option<IpAddr> = match self.host_ip.as_str() {
            "" => None,
            text => {
                let parsed = text.parse();
                Some(parsed.map_err(|_| {
                    invalid(
                        NAME,
                        format!(
                            "`portMappings`: hostIP `{}` is not an address",
                            text.escape_default()
                        ),
                    )
                })?)
            }
        };
        if listens_on.is_some_and(|address| address.is_ipv4() != pod.addr().is_ipv4()) {
            return Ok(None);
        }
        let listens_on = listens_on.filter(|address| !address.is_unspecified());
        let mut key = vec![protocol, 0, 0, 0];
        if let Some(address) = listens_on {
            key.extend(address_key(address));
        }
        key.extend(padded_port(self.host_port));
        let shown = listens_on.map_or_else(|| "the host".to_owned(), |address| address.to_string());
        Ok(Some(Entry {
            family: family(pod.addr()),
            set: if listens_on.is_some() {
                ADDRESS_PORTS
            } else {
                PORTS
            }
            .to_owned(),
            key,
            data: [address_key(pod.addr()), padded_port(self.container_port)].concat(),
            udp_port: (protocol == UDP).then_some(self.host_port),
            label: format!(
                "{} port {} of {shown}",
                self.protocol.to_lowercase(),
                self.host_port
            ),
        }))
    }

    /// The protocol's number.
    fn protocol(&self) -> Result<u8, PluginError> {
        let protocol = match self.protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => {
                return Err(invalid(
                    NAME,
                    format!(
                        "`portMappings`: unknown protocol `{}`",
                        self.protocol.escape_default()
                    ),
                ));
            }
        };
        Ok(match protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => UDP,
            Protocol::Sctp => 132,
        })
    }
}

impl Entry {
    pub(super) fn element(&self, comment: &str) -> Element {
        Element {
            key: self.key.clone(),
            data: self.data.clone(),
            comment: comment.to_owned(),
        }
    }
}

/// A port in network order, padded to a register.
fn padded_port(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![high, low, 0, 0]
}

fn yes() -> bool {
    true
}
