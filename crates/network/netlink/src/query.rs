//! Questions to the kernel: links, addresses, routes.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, Parseable,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use crate::request::{append, family_of};
use crate::{Link, NetlinkError, RouteSocket, RouteSpec, SourceRule};

/// A route the kernel reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteAnswer {
    /// Where packets go; not given for the default route.
    pub destination: Option<IpAddr>,
    /// Prefix length of the destination in bits.
    pub prefix_len: u8,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Outgoing link.
    pub link: Option<u32>,
    /// Routing table.
    pub table: u32,
    /// Source address of packets that have none yet.
    pub source: Option<IpAddr>,
    /// Metric.
    pub priority: Option<u32>,
    /// Scope as the kernel numbers it.
    pub scope: u8,
    /// Of IPv4.
    pub is_ipv4: bool,
    /// An ordinary route: not local, broadcast, multicast.
    pub is_unicast: bool,
}

impl RouteAnswer {
    /// The route as one that could be added, in `table`.
    pub fn to_spec(&self, table: u32) -> Option<RouteSpec> {
        let unspecified = if self.is_ipv4 {
            IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
        };
        let destination = IpNet::new(self.destination.unwrap_or(unspecified), self.prefix_len);
        Some(RouteSpec {
            gateway: self.gateway,
            priority: self.priority,
            table: Some(table),
            source: self.source,
            scope: Some(self.scope),
            ..RouteSpec::new(destination.ok()?, self.link?)
        })
    }
}

impl RouteSocket {
    /// The link called `name`.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than that there is none.
    pub fn link_by_name(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let operation = format!("read link `{name}`");
        match self.ask(
            &operation,
            NLM_F_ACK,
            RouteNetlinkMessage::GetLink(message),
            read_link,
        ) {
            Err(NetlinkError::Refused {
                source: Errno::NODEV,
                ..
            }) => Ok(None),
            found => Ok(found?.pop()),
        }
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        self.ask(
            "list links",
            NLM_F_DUMP,
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            read_link,
        )
    }

    /// The addresses of link `index` with their prefix lengths, both families.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<IpNet>, NetlinkError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let all = self.ask("list addresses", NLM_F_DUMP, request, |payload| {
            let message = AddressMessage::parse(payload).map_err(|error| error.to_string())?;
            Ok(local_address(&message).map(|address| (message.header.index, address)))
        })?;
        Ok(all
            .into_iter()
            .filter(|(link, _)| *link == index)
            .map(|(_, address)| address)
            .collect())
    }

    /// The route the kernel would take to `destination`.
    ///
    /// # Errors
    /// When there is none.
    pub fn route_to(&mut self, destination: IpAddr) -> Result<RouteAnswer, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family_of(destination);
        message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        message
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::from(destination)));
        let operation = format!("find the route to {destination}");
        let found = self.ask(
            &operation,
            NLM_F_ACK,
            RouteNetlinkMessage::GetRoute(message),
            read_route,
        )?;
        found.into_iter().next().ok_or(NetlinkError::Malformed {
            operation,
            reason: "no route in the answer".to_owned(),
        })
    }

    /// The IPv4 and IPv6 routes that leave through link `index`, all tables.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn routes(&mut self, index: u32) -> Result<Vec<RouteAnswer>, NetlinkError> {
        let request = RouteNetlinkMessage::GetRoute(RouteMessage::default());
        let mut routes = self.ask("list routes", NLM_F_DUMP, request, read_route)?;
        routes.retain(|route| route.link == Some(index));
        Ok(routes)
    }

    /// The rules by source address, both families.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn source_rules(&mut self) -> Result<Vec<SourceRule>, NetlinkError> {
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            let request = RouteNetlinkMessage::GetRule(message);
            rules.extend(self.ask("list rules", NLM_F_DUMP, request, read_rule)?);
        }
        Ok(rules)
    }

    pub(crate) fn ask<T>(
        &mut self,
        operation: &str,
        flags: u16,
        request: RouteNetlinkMessage,
        mut read: impl FnMut(&[u8]) -> Result<Option<T>, String>,
    ) -> Result<Vec<T>, NetlinkError> {
        let socket = self.inner();
        let sequence = socket.take_sequence(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = sequence;
        let mut buffer = Vec::new();
        append(
            &mut buffer,
            NetlinkMessage::new(header, NetlinkPayload::from(request)),
        );
        socket.query(operation, sequence, &buffer, |reply| read(reply.payload))
    }
}

fn read_link(payload: &[u8]) -> Result<Option<Link>, String> {
    Link::parse(payload).map(Some)
}

fn local_address(message: &AddressMessage) -> Option<IpNet> {
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
    // IPv6 addresses without a peer carry only the address attribute.
    let address = local.or_else(|| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
    })?;
    IpNet::new(address, message.header.prefix_len).ok()
}

fn read_route(payload: &[u8]) -> Result<Option<RouteAnswer>, String> {
    let message = RouteMessage::parse(payload).map_err(|error| error.to_string())?;
    let mut route = RouteAnswer {
        destination: None,
        prefix_len: message.header.destination_prefix_length,
        gateway: None,
        link: None,
        table: u32::from(message.header.table),
        source: None,
        priority: None,
        scope: u8::from(message.header.scope),
        is_ipv4: message.header.address_family == AddressFamily::Inet,
        is_unicast: message.header.kind == RouteType::Unicast,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => route.destination = ip_of(address),
            RouteAttribute::Gateway(address) => route.gateway = ip_of(address),
            RouteAttribute::Oif(index) => route.link = Some(*index),
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::PrefSource(address) => route.source = ip_of(address),
            RouteAttribute::Priority(priority) => route.priority = Some(*priority),
            _ => {}
        }
    }
    Ok(Some(route))
}

fn read_rule(payload: &[u8]) -> Result<Option<SourceRule>, String> {
    let message = RuleMessage::parse(payload).map_err(|error| error.to_string())?;
    let mut source = None;
    let mut table = u32::from(message.header.table);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Source(address) => source = Some(*address),
            RuleAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    Ok(source
        .and_then(|source| IpNet::new(source, message.header.src_len).ok())
        .map(|source| SourceRule { source, table }))
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
