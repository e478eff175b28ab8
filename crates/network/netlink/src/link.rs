//! Links as the kernel describes them, and the veth pair to be made.

use netlink_packet_route::link::{
    InfoBridgePort, InfoKind, InfoPortData, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
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
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(bytes) => link.mac = MacAddress::from_slice(bytes),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.master = Some(*index),
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
                _ => {}
            }
        }
    }
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}
