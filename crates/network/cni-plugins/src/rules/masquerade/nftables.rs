//! Masquerading by nftables.
//!
//! One rule per network and subnet, made once; a pod is an element of the set the rule looks in.
//! Adding the element fails when somebody flushed the tables, and then all is made anew: no state
//! of this process is trusted.

use crioxide_cni::{Call, IpConfig, NetworkResult};
use crioxide_netlink::NetlinkError;
use crioxide_netlink::nft::{
    BaseChain, ChainKind, Comparison, DataType, Element, Expression, Family, Hook, NftSocket,
    Register, SetSpec, Transaction,
};
use ipnet::IpNet;
use rustix::io::Errno;

use crate::rules::owner;
use crate::rules::packets::{PacketEnd, address_key, family, load_address};
use crate::rules::sockets::NftSockets;

pub(crate) const TABLE: &str = "crioxide_masq";
/// The kernel's priority of source address translation.
pub(crate) const SOURCE_NAT_PRIORITY: i32 = 100;

/// Lets a pod's addresses be masqueraded.
pub(super) fn add(
    sockets: &NftSockets,
    network: &str,
    call: &Call<'_>,
    ips: &[IpConfig],
) -> Result<(), NetlinkError> {
    let comment = owner::comment(network, call);
    let mut socket = sockets.get()?;
    let names: Vec<_> = ips.iter().map(|ip| set_name(network, ip.address)).collect();
    let mut elements_only = Transaction::new();
    push_elements(&mut elements_only, ips, &names, &comment);
    match elements_only.commit(&mut socket) {
        Err(error) if error.errno() == Some(Errno::NOENT) => {
            add_with_rules(&mut socket, ips, &names, &comment)
        }
        done => done,
    }
}

fn add_with_rules(
    socket: &mut NftSocket,
    ips: &[IpConfig],
    names: &[String],
    comment: &str,
) -> Result<(), NetlinkError> {
    let mut everything = Transaction::new();
    for (ip, name) in ips.iter().zip(names) {
        push_rules(&mut everything, ip.address, name);
    }
    push_elements(&mut everything, ips, names, comment);
    everything.commit(socket)
}

/// Makes what is missing again, rules and elements.
pub(super) fn restore(
    sockets: &NftSockets,
    network: &str,
    call: &Call<'_>,
    ips: &[IpConfig],
) -> Result<(), NetlinkError> {
    if ips.is_empty() || is_in_place(sockets, network, ips)? {
        return Ok(());
    }
    let names: Vec<_> = ips.iter().map(|ip| set_name(network, ip.address)).collect();
    let mut socket = sockets.get()?;
    add_with_rules(&mut socket, ips, &names, &owner::comment(network, call))
}

/// Ends it. The result names the addresses; without one the network's sets are searched.
pub(super) fn remove(
    sockets: &NftSockets,
    network: &str,
    call: &Call<'_>,
    previous: Option<&NetworkResult>,
) -> Result<(), NetlinkError> {
    let comment = owner::comment(network, call);
    let mut socket = sockets.get()?;
    match previous {
        Some(result) if !result.ips.is_empty() => {
            for ip in &result.ips {
                let family = family(ip.address.addr());
                let name = set_name(network, ip.address);
                let found =
                    socket.elements(family, TABLE, &name, &[address_key(ip.address.addr())])?;
                let keys = found
                    .into_iter()
                    .filter(|element| element.comment.as_deref() == Some(&comment));
                delete(
                    &mut socket,
                    family,
                    &name,
                    keys.map(|element| element.key).collect(),
                )?;
            }
            Ok(())
        }
        _ => remove_where(sockets, network, |owner| owner == comment),
    }
}

/// Ends it for all of the network's attachments that GC is not told of.
pub(super) fn collect(
    sockets: &NftSockets,
    network: &str,
    call: &Call<'_>,
) -> Result<(), NetlinkError> {
    let valid = owner::valid_comments(network, call);
    remove_where(sockets, network, |comment| {
        owner::is_of_network(comment, network) && !valid.contains(comment)
    })
}

/// Whether all the addresses are masqueraded: their elements and the rules that look for them.
pub(super) fn is_in_place(
    sockets: &NftSockets,
    network: &str,
    ips: &[IpConfig],
) -> Result<bool, NetlinkError> {
    let mut socket = sockets.get()?;
    for ip in ips {
        let address = ip.address.addr();
        let name = set_name(network, ip.address);
        let family = family(address);
        if socket.rule_count(family, TABLE, &name)? == 0
            || socket
                .elements(family, TABLE, &name, &[address_key(address)])?
                .is_empty()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a set belongs to `network`.
pub(crate) fn is_set_of(name: &str, network: &str) -> bool {
    // What follows the network's name is a subnet, which holds no further dash.
    name.strip_prefix("pods-")
        .and_then(|rest| rest.strip_prefix(network))
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|subnet| !subnet.contains('-'))
}

/// Sets and chains are named after network and subnet: `nft` takes no colons in names.
fn set_name(network: &str, address: IpNet) -> String {
    let subnet = address.trunc();
    format!(
        "pods-{network}-{}_{}",
        subnet.addr().to_string().replace(':', "."),
        subnet.prefix_len()
    )
}

fn push_elements<'a>(
    transaction: &mut Transaction<'a>,
    ips: &[IpConfig],
    names: &'a [String],
    comment: &str,
) {
    for (ip, name) in ips.iter().zip(names) {
        let address = ip.address.addr();
        let element = Element {
            key: address_key(address),
            data: Vec::new(),
            comment: comment.to_owned(),
        };
        transaction.add_elements(family(address), TABLE, name, vec![element]);
    }
}

/// `saddr in pods, daddr not in the subnet, daddr not multicast: masquerade`, in a chain of its
/// own, emptied first: running it twice, or in two processes at once, gives one rule.
fn push_rules<'a>(transaction: &mut Transaction<'a>, address: IpNet, name: &'a str) {
    let family = family(address.addr());
    let data_type = if family == Family::Ip {
        DataType::Ipv4Address
    } else {
        DataType::Ipv6Address
    };
    let (multicast, multicast_mask) = match family {
        Family::Ip6 => (pad(&[0xff]), pad(&[0xff])),
        _ => (vec![224, 0, 0, 0], vec![240, 0, 0, 0]),
    };
    let register = Register(0);
    let chain = BaseChain {
        name,
        kind: ChainKind::Nat,
        hook: Hook::Postrouting,
        priority: SOURCE_NAT_PRIORITY,
    };
    let rule = vec![
        load_address(family, PacketEnd::Source, register),
        Expression::InSet(register, name.to_owned()),
        load_address(family, PacketEnd::Destination, register),
        Expression::Mask(register, address_key(address.netmask())),
        Expression::Compare(
            register,
            Comparison::NotEqual,
            address_key(address.network()),
        ),
        load_address(family, PacketEnd::Destination, register),
        Expression::Mask(register, multicast_mask),
        Expression::Compare(register, Comparison::NotEqual, multicast),
        Expression::Masquerade,
    ];
    transaction
        .add_table(family, TABLE)
        .add_set(
            family,
            TABLE,
            &SetSpec {
                name,
                key: set_key(data_type),
                data: &[],
            },
        )
        .add_base_chain(family, TABLE, &chain)
        .flush_chain(family, TABLE, name)
        .add_rule(family, TABLE, name, rule);
}

fn set_key(data_type: DataType) -> &'static [DataType] {
    if data_type == DataType::Ipv4Address {
        &[DataType::Ipv4Address]
    } else {
        &[DataType::Ipv6Address]
    }
}

/// Sixteen bytes beginning with `head`.
fn pad(head: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.resize(16, 0);
    bytes
}

fn remove_where(
    sockets: &NftSockets,
    network: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), NetlinkError> {
    let mut socket = sockets.get()?;
    for family in [Family::Ip, Family::Ip6] {
        for name in socket.set_names(family, TABLE)? {
            if !is_set_of(&name, network) {
                continue;
            }
            let elements = socket.all_elements(family, TABLE, &name)?.into_iter();
            let keys = elements
                .filter(|element| element.comment.as_deref().is_some_and(&wanted))
                .map(|element| element.key);
            let keys = keys.collect();
            delete(&mut socket, family, &name, keys)?;
        }
    }
    Ok(())
}

/// Deletes elements; some that vanished meanwhile are no error.
fn delete(
    socket: &mut NftSocket,
    family: Family,
    set: &str,
    keys: Vec<Vec<u8>>,
) -> Result<(), NetlinkError> {
    let mut transaction = Transaction::new();
    let elements = keys
        .into_iter()
        .map(|key| Element {
            key,
            data: Vec::new(),
            comment: String::new(),
        })
        .collect();
    transaction.delete_elements(family, TABLE, set, elements);
    match transaction.commit(socket) {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_told_apart_by_network() {
        let v4 = set_name("a", "10.1.2.3/16".parse().unwrap());
        let v6 = set_name("a-b", "fd00::5/64".parse().unwrap());
        assert_eq!(v4, "pods-a-10.1.0.0_16");
        assert_eq!(v6, "pods-a-b-fd00.._64");
        assert!(is_set_of(&v4, "a") && is_set_of(&v6, "a-b"));
        assert!(!is_set_of(&v6, "a") && !is_set_of(&v4, "a-b"));
    }
}
