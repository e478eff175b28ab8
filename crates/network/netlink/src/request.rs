//! Changes to links, addresses and routes, collected and sent in one message.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::message::NLMSG_ERROR;
use crate::socket::Progress;
use crate::{MacAddress, NetlinkError, RouteSocket, VethSpec};

pub(crate) const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// A route to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSpec {
    /// Where packets go.
    pub destination: IpNet,
    /// Next hop; directly reachable when not given.
    pub gateway: Option<IpAddr>,
    /// Outgoing link.
    pub link: u32,
    /// Metric; the kernel's default when not given.
    pub priority: Option<u32>,
    /// Routing table; the main one when not given.
    pub table: Option<u32>,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// TCP maximum segment size to advertise, in bytes.
    pub advmss: Option<u32>,
    /// Source address of packets that have none yet.
    pub source: Option<IpAddr>,
    /// Scope as the kernel numbers it; by the gateway when not given.
    pub scope: Option<u8>,
}

impl RouteSpec {
    /// A route to `destination` through `link`, with nothing else said.
    pub fn new(destination: IpNet, link: u32) -> Self {
        Self {
            destination,
            gateway: None,
            link,
            priority: None,
            table: None,
            mtu: None,
            advmss: None,
            source: None,
            scope: None,
        }
    }
}

/// A batch of changes. They are sent in one system call and processed in order; the kernel goes on
/// after a failed one, and [`Self::send`] reports the first failure.
#[derive(Debug, Default)]
pub struct LinkRequests {
    requests: Vec<(String, u16, RouteNetlinkMessage)>,
}

impl LinkRequests {
    /// Creates a veth pair, the near end already up and a port of its bridge.
    ///
    /// The far end stays down: the kernel refuses to create it up, it is brought up from inside its
    /// namespace together with its addresses.
    pub fn create_veth(&mut self, spec: &VethSpec<'_>) -> &mut Self {
        let mut peer = LinkMessage::default();
        peer.attributes
            .push(LinkAttribute::IfName(spec.peer_name.to_owned()));
        peer.attributes
            .push(LinkAttribute::Address(spec.peer_mac.bytes().to_vec()));
        peer.attributes
            .push(LinkAttribute::NetNsFd(spec.peer_netns.raw_fd()));
        peer.attributes.extend(spec.mtu.map(LinkAttribute::Mtu));
        let mut message = new_link(spec.name, Some(spec.mac));
        message.attributes.extend(spec.mtu.map(LinkAttribute::Mtu));
        message
            .attributes
            .extend(spec.master.map(LinkAttribute::Controller));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let operation = format!("create veth `{}` with peer `{}`", spec.name, spec.peer_name);
        self.push(operation, CREATE, RouteNetlinkMessage::NewLink(message))
    }

    /// Creates a bridge, already up. One that filters VLANs looks at the tags of frames.
    pub fn create_bridge(
        &mut self,
        name: &str,
        mac: MacAddress,
        mtu: Option<u32>,
        filters_vlans: bool,
    ) -> &mut Self {
        let mut message = new_link(name, Some(mac));
        message.attributes.extend(mtu.map(LinkAttribute::Mtu));
        let mut info = vec![LinkInfo::Kind(InfoKind::Bridge)];
        if filters_vlans {
            let filtering = InfoBridge::VlanFiltering(true);
            info.push(LinkInfo::Data(InfoData::Bridge(vec![filtering])));
        }
        message.attributes.push(LinkAttribute::LinkInfo(info));
        self.push(
            format!("create bridge `{name}`"),
            CREATE,
            RouteNetlinkMessage::NewLink(message),
        )
    }

    /// Brings link `index` up.
    pub fn set_up(&mut self, index: u32) -> &mut Self {
        self.set_flags(index, LinkFlags::Up, LinkFlags::Up, "bring up")
    }

    /// Takes link `index` down.
    pub fn set_down(&mut self, index: u32) -> &mut Self {
        self.set_flags(index, LinkFlags::empty(), LinkFlags::Up, "take down")
    }

    /// Makes link `index` receive every frame.
    pub fn set_promiscuous(&mut self, index: u32) -> &mut Self {
        self.set_flags(
            index,
            LinkFlags::Promisc,
            LinkFlags::Promisc,
            "make promiscuous",
        )
    }

    /// Makes link `index` a port of the bridge `master`, or of nothing.
    pub fn set_master(&mut self, index: u32, master: Option<u32>) -> &mut Self {
        let mut message = by_index(index);
        message
            .attributes
            .push(LinkAttribute::Controller(master.unwrap_or(0)));
        let operation = match master {
            Some(master) => format!("make link {index} a port of link {master}"),
            None => format!("detach link {index} from its bridge"),
        };
        self.push(operation, 0, RouteNetlinkMessage::SetLink(message))
    }

    /// Makes the link called `name` a port of the bridge `master`, by name so that nothing has to be
    /// asked first.
    pub fn attach(&mut self, name: &str, master: u32, mtu: Option<u32>) -> &mut Self {
        let mut message = by_name(name);
        message.attributes.extend(mtu.map(LinkAttribute::Mtu));
        message.attributes.push(LinkAttribute::Controller(master));
        self.push(
            format!("make `{name}` a port of link {master}"),
            0,
            RouteNetlinkMessage::SetLink(message),
        )
    }

    /// Detaches the link called `name` from its bridge, by name likewise.
    pub fn detach(&mut self, name: &str) -> &mut Self {
        let mut message = by_name(name);
        message.attributes.push(LinkAttribute::Controller(0));
        self.push(
            format!("detach `{name}` from its bridge"),
            0,
            RouteNetlinkMessage::SetLink(message),
        )
    }

    /// Deletes the link called `name`. For a veth this waits for a kernel grace period (19 to 35
    /// ms): on busy paths let its namespace die instead.
    pub fn delete_link(&mut self, name: &str) -> &mut Self {
        let message = by_name(name);
        self.push(
            format!("delete link `{name}`"),
            0,
            RouteNetlinkMessage::DelLink(message),
        )
    }

    /// Adds `address` with its prefix length to link `index`. IPv6 duplicate detection is skipped:
    /// the address was assigned, and the pod must not wait a second for it.
    pub fn add_address(&mut self, index: u32, address: IpNet) -> &mut Self {
        let mut message = address_message(index, address);
        if let IpNet::V4(network) = address {
            if network.prefix_len() < 31 {
                message
                    .attributes
                    .push(AddressAttribute::Broadcast(network.broadcast()));
            }
        } else {
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        let operation = format!("add address {address} to link {index}");
        self.push(operation, CREATE, RouteNetlinkMessage::NewAddress(message))
    }

    /// Removes `address` from link `index`.
    pub fn delete_address(&mut self, index: u32, address: IpNet) -> &mut Self {
        let message = address_message(index, address);
        let operation = format!("remove address {address} from link {index}");
        self.push(operation, 0, RouteNetlinkMessage::DelAddress(message))
    }

    /// Adds a route, or replaces the one to the same destination.
    pub fn replace_route(&mut self, route: &RouteSpec) -> &mut Self {
        let message = route_message(route);
        let operation = match route.gateway {
            Some(gateway) => format!("add route to {} by {gateway}", route.destination),
            None => format!("add route to {}", route.destination),
        };
        self.push(
            operation,
            NLM_F_CREATE | NLM_F_REPLACE,
            RouteNetlinkMessage::NewRoute(message),
        )
    }

    /// Deletes a route.
    pub fn delete_route(&mut self, route: &RouteSpec) -> &mut Self {
        let operation = format!("delete route to {}", route.destination);
        let message = route_message(route);
        self.push(operation, 0, RouteNetlinkMessage::DelRoute(message))
    }

    /// Adds `address` to link `index` without the route to its subnet.
    pub fn add_address_only(&mut self, index: u32, address: IpNet) -> &mut Self {
        let mut message = address_message(index, address);
        let flags = match address {
            IpNet::V4(_) => AddressFlags::Noprefixroute,
            IpNet::V6(_) => AddressFlags::Noprefixroute | AddressFlags::Nodad,
        };
        message.attributes.push(AddressAttribute::Flags(flags));
        let operation = format!("add address {address} to link {index}");
        self.push(operation, CREATE, RouteNetlinkMessage::NewAddress(message))
    }

    /// Sends the batch and waits for the kernel's verdicts.
    ///
    /// # Errors
    /// The first refusal, naming the request it belongs to.
    pub fn send(self, socket: &mut RouteSocket) -> Result<(), NetlinkError> {
        let Some((first_operation, ..)) = self.requests.first() else {
            return Ok(());
        };
        let count = u32::try_from(self.requests.len()).expect("batches hold a handful of requests");
        let exchange_operation = first_operation.clone();
        let socket = socket.inner();
        let first = socket.take_sequence(count);
        let mut operations = Vec::with_capacity(self.requests.len());
        let mut buffer = Vec::new();
        for ((operation, flags, payload), sequence) in self.requests.into_iter().zip(first..) {
            operations.push(operation);
            let mut header = NetlinkHeader::default();
            header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
            header.sequence_number = sequence;
            append(
                &mut buffer,
                NetlinkMessage::new(header, NetlinkPayload::from(payload)),
            );
        }
        let exchange = |source| NetlinkError::Exchange {
            operation: exchange_operation.clone(),
            source,
        };
        socket.send(&buffer).map_err(exchange)?;
        let mut failure = None;
        let mut answered = 0;
        socket
            .receive(|reply| {
                let position = reply.sequence.wrapping_sub(first);
                if reply.kind != NLMSG_ERROR || position >= count {
                    return Progress::Continue;
                }
                answered += 1;
                if let (Err(source), None) = (reply.status(), &failure) {
                    let operation = usize::try_from(position)
                        .map_or_else(|_| String::new(), |at| operations[at].clone());
                    failure = Some(NetlinkError::Refused { operation, source });
                }
                if answered == count {
                    Progress::Finished
                } else {
                    Progress::Continue
                }
            })
            .map_err(exchange)?;
        match failure {
            Some(failure) => Err(failure),
            None if answered < count => Err(NetlinkError::Malformed {
                operation: exchange_operation,
                reason: format!("{answered} of {count} requests were acknowledged"),
            }),
            None => Ok(()),
        }
    }

    pub(crate) fn set_flags(
        &mut self,
        index: u32,
        flags: LinkFlags,
        mask: LinkFlags,
        verb: &str,
    ) -> &mut Self {
        let mut message = by_index(index);
        message.header.flags = flags;
        message.header.change_mask = mask;
        self.push(
            format!("{verb} link {index}"),
            0,
            RouteNetlinkMessage::SetLink(message),
        )
    }

    pub(crate) fn push(
        &mut self,
        operation: String,
        flags: u16,
        message: RouteNetlinkMessage,
    ) -> &mut Self {
        self.requests.push((operation, flags, message));
        self
    }
}

/// Appends a message, padded to the alignment the next one needs.
pub(crate) fn append(buffer: &mut Vec<u8>, mut message: NetlinkMessage<RouteNetlinkMessage>) {
    message.finalize();
    let start = buffer.len();
    buffer.resize((start + message.buffer_len()).next_multiple_of(4), 0);
    message.serialize(&mut buffer[start..]);
}

pub(crate) fn family_of(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn new_link(name: &str, mac: Option<MacAddress>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    message
        .attributes
        .extend(mac.map(|mac| LinkAttribute::Address(mac.bytes().to_vec())));
    message
}

pub(crate) fn by_name(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    message
}

pub(crate) fn by_index(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

pub(crate) fn address_message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family_of(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message
        .attributes
        .push(AddressAttribute::Address(address.addr()));
    message
        .attributes
        .push(AddressAttribute::Local(address.addr()));
    message
}

fn route_message(route: &RouteSpec) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(route.destination.addr());
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.kind = RouteType::Unicast;
    message.header.scope = match (route.scope, route.gateway, route.destination) {
        (Some(scope), ..) => RouteScope::from(scope),
        (None, None, IpNet::V4(_)) => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    if route.destination.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::from(
                route.destination.network(),
            )));
    }
    message.attributes.extend(
        route
            .gateway
            .map(|gateway| RouteAttribute::Gateway(RouteAddress::from(gateway))),
    );
    message.attributes.push(RouteAttribute::Oif(route.link));
    message.attributes.extend(
        route
            .source
            .map(|source| RouteAttribute::PrefSource(RouteAddress::from(source))),
    );
    message
        .attributes
        .extend(route.priority.map(RouteAttribute::Priority));
    message
        .attributes
        .extend(route.table.map(RouteAttribute::Table));
    let metrics: Vec<_> = route
        .mtu
        .map(RouteMetric::Mtu)
        .into_iter()
        .chain(route.advmss.map(RouteMetric::Advmss))
        .collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}
