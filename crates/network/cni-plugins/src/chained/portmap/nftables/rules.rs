//! The rules that look mappings up. All of them are made in one transaction, idempotently.

use crioxide_netlink::nft::{
    BaseChain, ChainKind, Comparison, DataType, Expression, Family, Hook, Register, SetSpec,
    Transaction,
};
use ipnet::IpNet;

use crate::rules::masquerade::SOURCE_NAT_PRIORITY;
use crate::rules::packets::{PacketEnd, address_key, load_address};

pub(crate) const TABLE: &str = "crioxide_hostports";
/// Map of mappings on all of the host's addresses: protocol, port.
pub(super) const PORTS: &str = "ports";
/// Map of mappings on one address: protocol, address, port.
pub(super) const ADDRESS_PORTS: &str = "address-ports";
const TRANSLATE: &str = "translate";
const GUARD: &str = "guard-localhost";
/// Behind iptables' and CRI-O's -100: a CRI-O that the node went back to cannot remove our elements, and what it maps
/// a port to comes first.
const DESTINATION_NAT_PRIORITY: i32 = -99;
const RAW_PRIORITY: i32 = -300;
/// Type of the host's own addresses in the routing table.
const RTN_LOCAL: u32 = 2;
/// The connection's destination was translated.
const IPS_DST_NAT: u32 = 1 << 5;

/// The set of (source subnet, pod) pairs whose translated packets are masqueraded, for subnets of
/// one prefix length: the rule has to know how many bits of the source count.
pub(super) fn hairpin_set(prefix_len: u8) -> String {
    format!("hairpin-{prefix_len}")
}

/// The prefix length a hairpin set is for.
pub(super) fn is_hairpin_set(name: &str) -> bool {
    name.starts_with("hairpin-")
}

/// Table, maps and translating chains of one family.
pub(super) fn push_base<'a>(transaction: &mut Transaction<'a>, family: Family) {
    let address = address_type(family);
    let (ports_key, address_ports_key, value) = match address {
        DataType::Ipv4Address => (
            PORTS_KEY,
            &[
                DataType::InetProtocol,
                DataType::Ipv4Address,
                DataType::InetService,
            ],
            V4_VALUE,
        ),
        _ => (
            PORTS_KEY,
            &[
                DataType::InetProtocol,
                DataType::Ipv6Address,
                DataType::InetService,
            ],
            V6_VALUE,
        ),
    };
    transaction
        .add_table(family, TABLE)
        .add_set(
            family,
            TABLE,
            &SetSpec {
                name: PORTS,
                key: ports_key,
                data: value,
            },
        )
        .add_set(
            family,
            TABLE,
            &SetSpec {
                name: ADDRESS_PORTS,
                key: address_ports_key,
                data: value,
            },
        )
        .add_chain(family, TABLE, TRANSLATE)
        .flush_chain(family, TABLE, TRANSLATE)
        .add_rule(family, TABLE, TRANSLATE, translate_by_address(family))
        .add_rule(family, TABLE, TRANSLATE, translate(family));
    for (name, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        let chain = BaseChain {
            name,
            kind: ChainKind::Nat,
            hook,
            priority: DESTINATION_NAT_PRIORITY,
        };
        transaction
            .add_base_chain(family, TABLE, &chain)
            .flush_chain(family, TABLE, name)
            .add_rule(family, TABLE, name, only_local_then_translate());
    }
    if family == Family::Ip {
        let name = GUARD;
        let chain = BaseChain {
            name,
            kind: ChainKind::Filter,
            hook: Hook::Prerouting,
            priority: RAW_PRIORITY,
        };
        transaction
            .add_base_chain(family, TABLE, &chain)
            .flush_chain(family, TABLE, name)
            .add_rule(family, TABLE, name, drop_foreign_localhost());
    }
}

/// The chains that [`push_base`] makes, and how many rules each has.
pub(super) fn base_chains(family: Family) -> Vec<(&'static str, usize)> {
    let mut chains = vec![(TRANSLATE, 2), ("prerouting", 1), ("output", 1)];
    if family == Family::Ip {
        chains.push((GUARD, 1));
    }
    chains
}

/// Set and chain for hairpin packets of subnets with the prefix length of `subnet`. Both have the
/// name `set`.
pub(super) fn push_hairpin<'a>(
    transaction: &mut Transaction<'a>,
    family: Family,
    subnet: IpNet,
    set: &'a str,
) {
    let key = if family == Family::Ip {
        V4_PAIR
    } else {
        V6_PAIR
    };
    let chain = BaseChain {
        name: set,
        kind: ChainKind::Nat,
        hook: Hook::Postrouting,
        priority: SOURCE_NAT_PRIORITY,
    };
    let (source, destination) = (
        Register(0),
        Register(if family == Family::Ip { 1 } else { 4 }),
    );
    let rule = vec![
        Expression::LoadConnectionStatus(source),
        Expression::Mask(source, IPS_DST_NAT.to_ne_bytes().to_vec()),
        Expression::Compare(source, Comparison::NotEqual, vec![0; 4]),
        load_address(family, PacketEnd::Source, source),
        Expression::Mask(source, address_key(subnet.netmask())),
        load_address(family, PacketEnd::Destination, destination),
        Expression::InSet(source, set.to_owned()),
        Expression::Masquerade,
    ];
    transaction
        .add_set(
            family,
            TABLE,
            &SetSpec {
                name: set,
                key,
                data: &[],
            },
        )
        .add_base_chain(family, TABLE, &chain)
        .flush_chain(family, TABLE, set)
        .add_rule(family, TABLE, set, rule);
}

const PORTS_KEY: &[DataType] = &[DataType::InetProtocol, DataType::InetService];
const V4_VALUE: &[DataType] = &[DataType::Ipv4Address, DataType::InetService];
const V6_VALUE: &[DataType] = &[DataType::Ipv6Address, DataType::InetService];
const V4_PAIR: &[DataType] = &[DataType::Ipv4Address, DataType::Ipv4Address];
const V6_PAIR: &[DataType] = &[DataType::Ipv6Address, DataType::Ipv6Address];

fn address_type(family: Family) -> DataType {
    match family {
        Family::Ip6 => DataType::Ipv6Address,
        _ => DataType::Ipv4Address,
    }
}

/// The map's value is address and port, in consecutive registers.
fn value_registers(family: Family) -> (Register, Register) {
    (
        Register(0),
        Register(if family == Family::Ip { 1 } else { 4 }),
    )
}

fn translate(family: Family) -> Vec<Expression> {
    let (address, port) = value_registers(family);
    vec![
        Expression::LoadProtocol(Register(0)),
        Expression::LoadDestinationPort(Register(1)),
        Expression::Map(Register(0), PORTS.to_owned(), address),
        Expression::DestinationNat(family, address, port),
    ]
}

fn translate_by_address(family: Family) -> Vec<Expression> {
    let (address, port) = value_registers(family);
    let port_key = Register(if family == Family::Ip { 2 } else { 5 });
    vec![
        Expression::LoadProtocol(Register(0)),
        load_address(family, PacketEnd::Destination, Register(1)),
        Expression::LoadDestinationPort(port_key),
        Expression::Map(Register(0), ADDRESS_PORTS.to_owned(), address),
        Expression::DestinationNat(family, address, port),
    ]
}

fn only_local_then_translate() -> Vec<Expression> {
    vec![
        Expression::LoadDestinationType(Register(0)),
        Expression::Compare(
            Register(0),
            Comparison::Equal,
            RTN_LOCAL.to_ne_bytes().to_vec(),
        ),
        Expression::Jump(TRANSLATE.to_owned()),
    ]
}

/// With `route_localnet` the kernel would let neighbours talk to services on 127.0.0.1.
fn drop_foreign_localhost() -> Vec<Expression> {
    let mut loopback = b"lo".to_vec();
    loopback.resize(16, 0);
    vec![
        Expression::LoadInputName(Register(0)),
        Expression::Compare(Register(0), Comparison::NotEqual, loopback),
        load_address(Family::Ip, PacketEnd::Destination, Register(0)),
        Expression::Mask(Register(0), vec![255, 0, 0, 0]),
        Expression::Compare(Register(0), Comparison::Equal, vec![127, 0, 0, 0]),
        Expression::Drop,
    ]
}
