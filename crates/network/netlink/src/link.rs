//! Links as the kernel describes them, and the veth pair to be made.

use netlink_packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVlan, InfoVrf, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};

use crate::{MacAddress, Netns};

/// What is known of one network link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index in its namespace.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Hardware address, when the link has an Ethernet one.
    pub mac: Option<MacAddress>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Index of the bridge (or other master) it is a port of.
    pub master: Option<u32>,
    /// Kind, as `ip -d link` names it (`bridge`, `veth`); empty for real hardware and `lo`.
    pub kind: String,
    /// Administratively up.
    pub up: bool,
    /// Promiscuous mode was asked for.
    pub promiscuous: bool,
    /// Frames may leave through the port they came in by; only of bridge ports.
    pub hairpin: bool,
    /// All multicast frames are received.
    pub all_multicast: bool,
    /// Descriptive text.
    pub alias: String,
    /// Length of the transmit queue in packets.
    pub tx_queue_len: u32,
    /// Index of the link it sits on.
    pub parent: Option<u32>,
    /// Routing table, of a VRF.
    pub vrf_table: Option<u32>,
    /// Tag, of a VLAN.
    pub vlan_id: Option<u16>,
}

/// A veth pair: one end here, the other directly inside another network namespace.
#[derive(Debug)]
pub struct VethSpec<'a> {
    /// Name of the end in this namespace.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: MacAddress,
    /// Name of the end in `peer_netns`.
    pub peer_name: &'a str,
    /// Its hardware address.
    pub peer_mac: MacAddress,
    /// Where the peer goes.
    pub peer_netns: &'a Netns,
    /// Largest packet in bytes; the kernel's default when not given.
    pub mtu: Option<u32>,
    /// Bridge that this end becomes a port of.
    pub master: Option<u32>,
}

impl Link {
    pub(crate) fn from_message(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            master: None,
            kind: String::new(),
            up: flags.contains(LinkFlags::Up),
            promiscuous: flags.contains(LinkFlags::Promisc),
            hairpin: false,
            all_multicast: flags.contains(LinkFlags::Allmulti),
            alias: String::new(),
            tx_queue_len: 0,
            parent: None,
            vrf_table: None,
            vlan_id: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(bytes) => link.mac = MacAddress::from_slice(bytes),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.master = Some(*index),
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::TxQueueLen(length) => link.tx_queue_len = *length,
                LinkAttribute::Link(index) => link.parent = Some(*index),
                LinkAttribute::LinkInfo(infos) => link.read_info(infos),
                _ => {}
            }
        }
        link
    }

    fn read_info(&mut self, infos: &[LinkInfo]) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = kind_name(kind),
                LinkInfo::PortData(InfoPortData::BridgePort(port)) => {
                    self.hairpin = port.contains(&InfoBridgePort::HairpinMode(true));
                }
                LinkInfo::Data(InfoData::Vrf(vrf)) => {
                    self.vrf_table = vrf.iter().find_map(|info| match info {
                        InfoVrf::TableId(table) => Some(*table),
                        _ => None,
                    });
                }
                LinkInfo::Data(InfoData::Vlan(vlan)) => {
                    self.vlan_id = vlan.iter().find_map(|info| match info {
                        InfoVlan::Id(id) => Some(*id),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
    }
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}
