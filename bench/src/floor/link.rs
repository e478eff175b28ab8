//! A network namespace with a veth pair, an address and a default route.

use std::path::Path;

use anyhow::{Context, Result};
use crioxide_netlink::{LinkRequests, MacAddress, Netns, RouteSocket, RouteSpec, VethSpec};
use ipnet::{IpNet, Ipv4Net};

use super::host::Host;

/// Index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;

/// Connects the pinned namespace; `inside` was opened in it.
pub(super) fn connect(
    host: &mut Host,
    pin: &Path,
    inside: &mut RouteSocket,
    number: u32,
) -> Result<()> {
    let netns = Netns::open(pin)?;
    let name = format!("f{}x{number}", std::process::id());
    let mut requests = LinkRequests::default();
    requests.create_veth(&VethSpec {
        name: &name,
        mac: MacAddress::generate()?,
        peer_name: "eth0",
        peer_mac: MacAddress::generate()?,
        peer_netns: &netns,
        mtu: None,
        master: Some(host.bridge),
    });
    requests.send(&mut host.routes)?;
    let address = host.address()?;
    let index = inside
        .link_by_name("eth0")?
        .context("the link just made")?
        .index;
    let mut requests = LinkRequests::default();
    requests
        .set_up(LOOPBACK)
        .add_address(index, IpNet::V4(address))
        .set_up(index)
        .replace_route(&RouteSpec {
            destination: IpNet::V4(Ipv4Net::default()),
            gateway: Some(host.gateway().into()),
            link: index,
            priority: None,
            table: None,
            mtu: None,
            advmss: None,
            source: None,
            scope: None,
        });
    requests.send(inside)?;
    host.routes.settle_link(&name)?;
    Ok(())
}
