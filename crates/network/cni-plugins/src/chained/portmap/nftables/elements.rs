//! A plan as elements of sets and maps.

use std::net::{IpAddr, Ipv4Addr};

use crioxide_cni::Protocol;
use crioxide_netlink::nft::{Element, Family};
use ipnet::IpNet;

use super::rules::{ADDRESS_PORTS, PORTS, hairpin_set};
use crate::chained::portmap::mapping::{Masqueraded, Plan, Port};
use crate::rules::packets::{address_key, family};

/// Elements for one pod.
#[derive(Debug)]
pub(super) struct Elements {
    pub(super) entries: Vec<Entry>,
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
    /// The plan's port that it maps.
    pub(super) port: Option<usize>,
    /// For messages.
    pub(super) label: String,
}

impl Elements {
    pub(super) fn of(plan: &Plan) -> Self {
        let entries = plan.ports.iter().enumerate();
        let mut elements = Self {
            entries: entries.map(|(at, port)| mapping(at, port)).collect(),
            subnets: Vec::new(),
        };
        for pod in &plan.pods {
            match plan.masqueraded {
                Masqueraded::Nobody => {}
                Masqueraded::Near => elements.add_hairpin(*pod, *pod),
                Masqueraded::Everybody => {
                    let everywhere = IpNet::new(pod.addr(), 0).expect("a prefix may be empty");
                    elements.add_hairpin(*pod, everywhere);
                }
            }
        }
        elements
    }

    /// Replies must come back through the host, also to pods of the same subnet, to the pod itself
    /// and to the host's own 127.0.0.1.
    fn add_hairpin(&mut self, pod: IpNet, subnet: IpNet) {
        let mut sources = vec![subnet.network()];
        if let IpNet::V4(network) = subnet {
            let localhost = Ipv4Addr::LOCALHOST.to_bits() & network.netmask().to_bits();
            sources.push(IpAddr::V4(Ipv4Addr::from_bits(localhost)));
            sources.dedup();
        }
        for source in sources {
            self.entries.push(Entry {
                family: family(pod.addr()),
                set: hairpin_set(subnet.prefix_len()),
                key: [address_key(source), address_key(pod.addr())].concat(),
                data: Vec::new(),
                port: None,
                label: format!("hairpin to {}", pod.addr()),
            });
        }
        self.subnets.push(subnet);
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

fn mapping(at: usize, port: &Port) -> Entry {
    let mut key = vec![number(port.protocol), 0, 0, 0];
    if let Some(address) = port.listens_on {
        key.extend(address_key(address));
    }
    key.extend(padded_port(port.host_port));
    let set = if port.listens_on.is_some() {
        ADDRESS_PORTS
    } else {
        PORTS
    };
    Entry {
        family: family(port.pod),
        set: set.to_owned(),
        key,
        data: [address_key(port.pod), padded_port(port.container_port)].concat(),
        port: Some(at),
        label: port.label(),
    }
}

/// A protocol's number in IP headers.
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// A port in network order, padded to a register.
fn padded_port(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![high, low, 0, 0]
}
