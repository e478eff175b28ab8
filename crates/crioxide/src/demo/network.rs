//! The demo's network: addresses that lead nowhere yet, and what its bridge changes on the host.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use crioxide_netlink::RouteSocket;
use crioxide_netlink::nft::{Family, NftSocket};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::place::Place;

/// Switches that the bridge plugin turns on.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// Whether the pod's packets to the outside get the host's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Masquerade {
    On,
    /// The kernel has no nftables. The host reaches the pod all the same.
    Unavailable,
}

/// Whether nftables answers.
pub(super) fn masquerade() -> Masquerade {
    let asked = NftSocket::open()
        .and_then(|mut socket| socket.set_names(Family::Ip, "crioxide-demo-probe"));
    if asked.is_ok() {
        Masquerade::On
    } else {
        Masquerade::Unavailable
    }
}

/// The switches that the bridge turns on, with the values they have now.
pub(super) fn forwarding() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let path = PathBuf::from(FORWARDING);
    let value =
        std::fs::read_to_string(&path).with_context(|| format!("read `{}`", path.display()))?;
    let value = value.trim().to_owned();
    ensure!(
        value == "1" || std::fs::OpenOptions::new().write(true).open(&path).is_ok(),
        "`{}` is {value} and not writable: the pod's network needs it to be 1",
        path.display()
    );
    Ok(vec![(path, value)])
}

/// A /24 of the private ranges that overlaps with nothing this host has a route or address for. `seed` spreads
/// demos that start at the same time.
pub(super) fn free_subnet(seed: &str) -> anyhow::Result<Ipv4Net> {
    let mut socket = RouteSocket::open().context("ask for the host's networks")?;
    let mut used = Vec::new();
    for link in socket.links().context("ask for the host's networks")? {
        used.extend(
            socket
                .addresses(link.index)
                .context("ask for the host's addresses")?,
        );
        for route in socket
            .routes(link.index)
            .context("ask for the host's routes")?
        {
            let destination = route
                .destination
                .and_then(|ip| IpNet::new(ip, route.prefix_len).ok());
            // A default route is no reason: what is more specific wins.
            used.extend(destination.filter(|net| net.prefix_len() > 0));
        }
    }
    let start = seed.bytes().fold(0_u16, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    (0..CANDIDATES)
        .map(|offset| candidate((start % CANDIDATES + offset) % CANDIDATES))
        .find(|net| used.iter().all(|used| !overlap(used, net)))
        .context("this host has routes to all of 10.128.0.0/9 and 172.16.0.0/12: there is no free subnet for the pod")
}

const CANDIDATES: u16 = 0x8000 + 0x1000;

/// 10.128.0.0/9 and 172.16.0.0/12, in /24s.
fn candidate(number: u16) -> Ipv4Net {
    let [high, low] = number.to_be_bytes();
    let address = if number < 0x8000 {
        Ipv4Addr::new(10, 128 + high, low, 0)
    } else {
        Ipv4Addr::new(172, 16 + (high - 0x80), low, 0)
    };
    Ipv4Net::new_assert(address, 24)
}

fn overlap(used: &IpNet, net: &Ipv4Net) -> bool {
    match used {
        IpNet::V4(used) => used.contains(net) || net.contains(used),
        IpNet::V6(_) => false,
    }
}

/// The network's configuration list.
pub(super) fn conflist(place: &Place) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": place.network(),
        "plugins": [{
            "type": "bridge",
            "bridge": place.bridge(),
            "isGateway": true,
            "ipMasq": place.masquerade == Masquerade::On,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": place.base().join("cache/networks"),
                "routes": [{"dst": "0.0.0.0/0"}],
                "ranges": [[{"subnet": place.subnet}]],
            },
        }],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_stay_in_private_ranges() {
        for (number, expected) in [
            (0, "10.128.0.0/24"),
            (0x7fff, "10.255.255.0/24"),
            (0x8000, "172.16.0.0/24"),
            (CANDIDATES - 1, "172.31.255.0/24"),
        ] {
            assert_eq!(candidate(number).to_string(), expected);
        }
    }

    #[test]
    fn subnets_in_either_direction_overlap() {
        let net: Ipv4Net = "10.200.3.0/24".parse().unwrap();
        for (used, expected) in [
            ("10.0.0.0/8", true),
            ("10.200.3.7/32", true),
            ("10.200.4.0/24", false),
            ("fd00::/8", false),
        ] {
            assert_eq!(overlap(&used.parse().unwrap(), &net), expected, "{used}");
        }
    }
}
