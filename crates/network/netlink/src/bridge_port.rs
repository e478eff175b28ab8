//! Ports of bridges: isolation, and the VLANs whose frames they take.

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::link::{
    AfSpecBridge, BridgeFlag, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridgePort, InfoPortData,
    InfoPortKind, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::message::{attribute, attributes};
use crate::request::{by_index, by_name};
use crate::{LinkRequests, NetlinkError, RouteSocket};

/// The fixed part of a link's message.
const FIXED: usize = 16;
/// `IFLA_AF_SPEC`, and in it `IFLA_BRIDGE_VLAN_INFO`.
const AF_SPEC: u16 = 26;
const VLAN_INFO: u16 = 2;

/// What a port does with frames of a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VlanRole {
    /// They carry their tag on both ways.
    Tagged,
    /// They carry none: what comes in without a tag is of this VLAN, and leaves so.
    Native,
}

impl LinkRequests {
    /// Lets the bridge send frames back out of port `name`, the port they came in by.
    pub fn set_hairpin(&mut self, name: &str) -> &mut Self {
        let operation = format!("set hairpin mode of `{name}`");
        self.set_port(name, InfoBridgePort::HairpinMode(true), operation)
    }

    /// Keeps frames of port `name` from other isolated ports.
    pub fn isolate(&mut self, name: &str) -> &mut Self {
        let operation = format!("isolate bridge port `{name}`");
        self.set_port(name, InfoBridgePort::Isolated(true), operation)
    }

    /// Lets port `index` take frames of VLAN `id`.
    pub fn add_vlan(&mut self, index: u32, id: u16, role: VlanRole) -> &mut Self {
        let flags = match role {
            VlanRole::Tagged => BridgeVlanInfoFlags::empty(),
            VlanRole::Native => BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged,
        };
        self.push(
            format!("add VLAN {id} to bridge port {index}"),
            0,
            RouteNetlinkMessage::SetLink(vlan_message(index, id, flags)),
        )
    }

    /// Lets port `index` no longer take frames of VLAN `id`.
    pub fn delete_vlan(&mut self, index: u32, id: u16) -> &mut Self {
        self.push(
            format!("delete VLAN {id} of bridge port {index}"),
            0,
            RouteNetlinkMessage::DelLink(vlan_message(index, id, BridgeVlanInfoFlags::empty())),
        )
    }

    fn set_port(&mut self, name: &str, setting: InfoBridgePort, operation: String) -> &mut Self {
        let mut message = by_name(name);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![setting])),
        ]));
        self.push(operation, 0, RouteNetlinkMessage::NewLink(message))
    }
}

impl RouteSocket {
    /// The VLANs whose frames port `index` of a bridge takes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn vlans(&mut self, index: u32) -> Result<Vec<u16>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message
            .attributes
            .push(LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan]));
        let request = RouteNetlinkMessage::GetLink(message);
        let of_ports = self.ask(
            "list VLANs of bridge ports",
            NLM_F_DUMP,
            request,
            |payload| {
                let (fixed, rest) = payload
                    .split_at_checked(FIXED)
                    .ok_or("a link's message is too short")?;
                let is_wanted = fixed[4..8] == index.to_ne_bytes();
                Ok(is_wanted.then(|| read_vlans(rest)))
            },
        )?;
        Ok(of_ports.into_iter().flatten().collect())
    }
}

fn read_vlans(link: &[u8]) -> Vec<u16> {
    let list = attribute(link, AF_SPEC).unwrap_or_default();
    attributes(list)
        .filter(|(kind, _)| *kind == VLAN_INFO)
        .filter_map(|(_, value)| Some(u16::from_ne_bytes(value.get(2..4)?.try_into().ok()?)))
        .collect()
}

fn vlan_message(index: u32, vid: u16, flags: BridgeVlanInfoFlags) -> LinkMessage {
    let mut message = by_index(index);
    message.header.interface_family = AddressFamily::Bridge;
    message.attributes.push(LinkAttribute::AfSpecBridge(vec![
        AfSpecBridge::Flags(BridgeFlag::Controller),
        AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid }),
    ]));
    message
}
