//! Parts of packets, as nftables expressions load them.

use std::net::IpAddr;

use crioxide_netlink::nft::{Expression, Family, Register};

/// Which address of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketEnd {
    Source,
    Destination,
}

pub(crate) fn family(address: IpAddr) -> Family {
    if address.is_ipv4() {
        Family::Ip
    } else {
        Family::Ip6
    }
}

pub(crate) fn address_key(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Loads the source or destination address of a packet of IPv6, or else of IPv4.
pub(crate) fn load_address(family: Family, end: PacketEnd, register: Register) -> Expression {
    let (offset, length) = match (family == Family::Ip6, end) {
        (false, PacketEnd::Source) => (12, 4),
        (false, PacketEnd::Destination) => (16, 4),
        (true, PacketEnd::Source) => (8, 16),
        (true, PacketEnd::Destination) => (24, 16),
    };
    Expression::LoadNetwork(register, offset, length)
}
