//! Making links of every kind a pod network has, and changing their properties.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoVlan, InfoVrf, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
pub use netlink_packet_route::link::{IpVlanMode, MacVlanMode};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use crate::request::{CREATE, by_index, family_of};
use crate::{LinkRequests, MacAddress, Netns};

/// A link to be made.
#[derive(Debug)]
pub struct LinkSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it is.
    pub kind: LinkKind,
    /// Namespace it is made in; the socket's own when not given.
    pub netns: Option<&'a Netns>,
    /// The link of the socket's namespace that it sits on.
    pub parent: Option<u32>,
    /// Hardware address; the kernel's choice when not given.
    pub mac: Option<MacAddress>,
    /// Largest packet in bytes; the kernel's choice when not given.
    pub mtu: Option<u32>,
}

/// Kinds of links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// Drops what is sent to it.
    Dummy,
    /// Has a queue in front of another link.
    Ifb,
    /// Another Ethernet address on its parent; with the length of its queue of broadcasts, in packets, if not the kernel's.
    MacVlan(MacVlanMode, Option<u32>),
    /// Another name of its parent's Ethernet address.
    IpVlan(IpVlanMode),
    /// A tagged network on its parent.
    Vlan(u16),
    /// A routing domain with its table.
    Vrf(u32),
}

/// A rule that sends packets from an address to a routing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRule {
    /// Source prefix.
    pub source: IpNet,
    /// Routing table.
    pub table: u32,
}

impl LinkRequests {
    /// Creates a link, down.
    pub fn create_link(&mut self, spec: &LinkSpec<'_>) -> &mut Self {
        let mut message = LinkMessage::default();
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(spec.name.to_owned()));
        attributes.extend(spec.parent.map(LinkAttribute::Link));
        attributes.extend(
            spec.netns
                .map(|netns| LinkAttribute::NetNsFd(netns.raw_fd())),
        );
        attributes.extend(
            spec.mac
                .map(|mac| LinkAttribute::Address(mac.bytes().to_vec())),
        );
        attributes.extend(spec.mtu.map(LinkAttribute::Mtu));
        let (kind, data) = spec.kind.info();
        let mut info = vec![LinkInfo::Kind(kind)];
        info.extend(data.map(LinkInfo::Data));
        attributes.push(LinkAttribute::LinkInfo(info));
        self.push(
            format!("create link `{}`", spec.name),
            CREATE,
            RouteNetlinkMessage::NewLink(message),
        )
    }

    /// Gives link `index` another name. It must be down on kernels before 6.2.
    pub fn rename(&mut self, index: u32, name: &str) -> &mut Self {
        self.set_attribute(
            index,
            LinkAttribute::IfName(name.to_owned()),
            &format!("rename link {index} to `{name}`"),
        )
    }

    /// Moves link `index` into another namespace, with a new name there. It goes down on the way.
    pub fn move_to(&mut self, index: u32, netns: &Netns, name: &str) -> &mut Self {
        let mut message = by_index(index);
        message
            .attributes
            .push(LinkAttribute::NetNsFd(netns.raw_fd()));
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        self.push(
            format!(
                "move link {index} to `{}` as `{name}`",
                netns.path().display()
            ),
            0,
            RouteNetlinkMessage::SetLink(message),
        )
    }

    /// Sets the hardware address of link `index`.
    pub fn set_mac(&mut self, index: u32, mac: MacAddress) -> &mut Self {
        self.set_attribute(
            index,
            LinkAttribute::Address(mac.bytes().to_vec()),
            &format!("set hardware address {mac} of link {index}"),
        )
    }

    /// Sets the largest packet of link `index`, in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> &mut Self {
        self.set_attribute(
            index,
            LinkAttribute::Mtu(mtu),
            &format!("set MTU {mtu} of link {index}"),
        )
    }

    /// Sets the descriptive text of link `index`.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> &mut Self {
        self.set_attribute(
            index,
            LinkAttribute::IfAlias(alias.to_owned()),
            &format!("set alias `{alias}` of link {index}"),
        )
    }

    /// Sets the length of the transmit queue of link `index`, in packets.
    pub fn set_tx_queue_len(&mut self, index: u32, length: u32) -> &mut Self {
        self.set_attribute(
            index,
            LinkAttribute::TxQueueLen(length),
            &format!("set transmit queue length {length} of link {index}"),
        )
    }

    /// Makes link `index` receive all multicast frames, or not.
    pub fn set_all_multicast(&mut self, index: u32, on: bool) -> &mut Self {
        let flags = if on {
            LinkFlags::Allmulti
        } else {
            LinkFlags::empty()
        };
        self.set_flags(index, flags, LinkFlags::Allmulti, "set multicast mode of")
    }

    /// Makes link `index` receive every frame no longer.
    pub fn unset_promiscuous(&mut self, index: u32) -> &mut Self {
        self.set_flags(
            index,
            LinkFlags::empty(),
            LinkFlags::Promisc,
            "end promiscuous mode of",
        )
    }

    /// Adds a rule.
    pub fn add_rule(&mut self, rule: SourceRule) -> &mut Self {
        self.push(
            format!("add rule from {} to table {}", rule.source, rule.table),
            NLM_F_CREATE | NLM_F_EXCL,
            RouteNetlinkMessage::NewRule(rule_message(rule)),
        )
    }

    /// Deletes a rule.
    pub fn delete_rule(&mut self, rule: SourceRule) -> &mut Self {
        self.push(
            format!("delete rule from {} to table {}", rule.source, rule.table),
            0,
            RouteNetlinkMessage::DelRule(rule_message(rule)),
        )
    }

    fn set_attribute(
        &mut self,
        index: u32,
        attribute: LinkAttribute,
        operation: &str,
    ) -> &mut Self {
        let mut message = by_index(index);
        message.attributes.push(attribute);
        self.push(
            operation.to_owned(),
            0,
            RouteNetlinkMessage::SetLink(message),
        )
    }
}

impl LinkKind {
    fn info(self) -> (InfoKind, Option<InfoData>) {
        match self {
            Self::Dummy => (InfoKind::Dummy, None),
            Self::Ifb => (InfoKind::Ifb, None),
            Self::MacVlan(mode, queue) => {
                let mut data = vec![InfoMacVlan::Mode(mode)];
                data.extend(queue.map(InfoMacVlan::BcQueueLen));
                (InfoKind::MacVlan, Some(InfoData::MacVlan(data)))
            }
            Self::IpVlan(mode) => (
                InfoKind::IpVlan,
                Some(InfoData::IpVlan(vec![InfoIpVlan::Mode(mode)])),
            ),
            Self::Vlan(id) => (InfoKind::Vlan, Some(InfoData::Vlan(vec![InfoVlan::Id(id)]))),
            Self::Vrf(table) => (
                InfoKind::Vrf,
                Some(InfoData::Vrf(vec![InfoVrf::TableId(table)])),
            ),
        }
    }
}

fn rule_message(rule: SourceRule) -> RuleMessage {
    let source: IpAddr = rule.source.addr();
    let mut message = RuleMessage::default();
    message.header.family = family_of(source);
    message.header.src_len = rule.source.prefix_len();
    message.header.action = RuleAction::ToTable;
    message.header.table = u8::try_from(rule.table).unwrap_or(0);
    message.attributes.push(RuleAttribute::Source(source));
    message.attributes.push(RuleAttribute::Table(rule.table));
    message
}
