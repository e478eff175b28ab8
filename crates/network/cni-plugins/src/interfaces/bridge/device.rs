//! The bridge itself: made when needed, with the gateways' addresses.

use std::net::IpAddr;

use crioxide_cni::{IpConfig, PluginError};
use crioxide_netlink::{Link, LinkRequests, MacAddress, RouteSocket};
use ipnet::IpNet;
use rustix::io::Errno;

use super::configuration::Settings;
use super::{NAME, failed};
use crate::configuration::invalid;
use crate::sysctl;

/// Makes sure that the bridge is there and up.
pub(super) fn ensure_bridge(
    socket: &mut RouteSocket,
    settings: &Settings,
) -> Result<Link, PluginError> {
    let name = &settings.bridge;
    let mut found = socket.link_by_name(name).map_err(|error| failed(&error))?;
    if found.is_none() {
        create(socket, settings)?;
        found = socket.link_by_name(name).map_err(|error| failed(&error))?;
    }
    let link = found.ok_or_else(|| {
        invalid(
            NAME,
            format!("bridge `{name}` vanished while it was set up"),
        )
    })?;
    if link.kind != "bridge" {
        return Err(invalid(
            NAME,
            format!("interface `{name}` exists and is not a bridge"),
        ));
    }
    let mut requests = LinkRequests::default();
    if !link.up {
        requests.set_up(link.index);
    }
    if settings.promiscuous && !link.promiscuous {
        requests.set_promiscuous(link.index);
    }
    requests.send(socket).map_err(|error| failed(&error))?;
    Ok(link)
}

fn create(socket: &mut RouteSocket, settings: &Settings) -> Result<(), PluginError> {
    let mac = MacAddress::generate().map_err(|error| failed(&error))?;
    let mut requests = LinkRequests::default();
    requests.create_bridge(&settings.bridge, mac, settings.mtu, settings.filters_vlans);
    match requests.send(socket) {
        // Another pod's attachment was first.
        Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
        Err(error) => Err(failed(&error)),
        // A pod must not be able to give the host routes by router advertisements.
        Ok(()) => sysctl::set_if_present(&format!("ipv6/conf/{}/accept_ra", settings.bridge), "0")
            .map_err(|error| failed(&error)),
    }
}

/// Gives the bridge, or the host's port of the VLAN, the addresses of the pods' gateways, and turns forwarding on.
pub(super) fn ensure_gateways(
    socket: &mut RouteSocket,
    settings: &Settings,
    link: &Link,
    ips: &[IpConfig],
) -> Result<(), PluginError> {
    let present = socket
        .addresses(link.index)
        .map_err(|error| failed(&error))?;
    for ip in ips {
        let Some(gateway) = ip.gateway else { continue };
        let wanted =
            IpNet::new(gateway, ip.address.prefix_len()).map_err(|error| failed(&error))?;
        if present.contains(&wanted) {
            continue;
        }
        let mut requests = LinkRequests::default();
        for other in present.iter().filter(|other| conflicts(other, &wanted)) {
            if !settings.force_address {
                let message = format!(
                    "bridge `{}` has address {other}, which is not the gateway {wanted}",
                    link.name
                );
                return Err(invalid(NAME, message));
            }
            requests.delete_address(link.index, *other);
        }
        requests.add_address(link.index, wanted);
        match requests.send(socket) {
            // Another pod's attachment was first.
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            sent => sent.map_err(|error| failed(&error))?,
        }
    }
    enable_forwarding(ips)
}

/// An address that would make the bridge someone else in the same subnet. One network may have
/// several subnets; all IPv4 addresses of other subnets, and IPv6 ones, may stay.
fn conflicts(present: &IpNet, wanted: &IpNet) -> bool {
    let same_family = present.addr().is_ipv4() == wanted.addr().is_ipv4();
    let link_local =
        matches!(present.addr(), IpAddr::V6(address) if address.is_unicast_link_local());
    same_family
        && !link_local
        && (present.contains(&wanted.addr()) || wanted.contains(&present.addr()))
}

fn enable_forwarding(ips: &[IpConfig]) -> Result<(), PluginError> {
    let has = |v4: bool| ips.iter().any(|ip| ip.address.addr().is_ipv4() == v4);
    if has(true) {
        sysctl::set("ipv4/ip_forward", "1").map_err(|error| failed(&error))?;
    }
    if has(false) {
        sysctl::set("ipv6/conf/all/forwarding", "1").map_err(|error| failed(&error))?;
    }
    Ok(())
}
