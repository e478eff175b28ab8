//! The pod's end of the pair: addresses, routes, up. All in one visit to its namespace.

use std::net::IpAddr;

use crioxide_cni::{NetworkResult, PluginError, error_code};
use crioxide_netlink::{LinkRequests, NetlinkError, Netns, RouteSocket, RouteSpec};

use super::{NAME, failed};
use crate::sysctl;

/// Configures interface `ifname` of the pod; returns its MTU.
pub(super) fn configure(
    netns: &Netns,
    ifname: &str,
    result: &NetworkResult,
) -> Result<u32, PluginError> {
    netns
        .run(|| configure_here(ifname, result))
        .map_err(|error| failed(&error))?
}

fn configure_here(ifname: &str, result: &NetworkResult) -> Result<u32, PluginError> {
    let netlink = |error: NetlinkError| failed(&error);
    let mut socket = RouteSocket::open().map_err(netlink)?;
    let link = socket
        .link_by_name(ifname)
        .map_err(netlink)?
        .ok_or_else(|| {
            PluginError::reported(
                NAME,
                error_code::FAILED,
                format!("interface `{ifname}` vanished from the pod"),
            )
        })?;
    // Routes are ours to give; another pod must not give some by router advertisements.
    sysctl::set_if_present(&format!("ipv6/conf/{ifname}/accept_ra"), "0")
        .map_err(|error| failed(&error))?;
    if result.ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        sysctl::set(&format!("ipv6/conf/{ifname}/disable_ipv6"), "0")
            .map_err(|error| failed(&error))?;
    }
    let mut requests = LinkRequests::default();
    for ip in &result.ips {
        requests.add_address(link.index, ip.address);
    }
    requests.set_up(link.index);
    for route in &result.routes {
        let gateway = route
            .gw
            .or_else(|| gateway_of_family(result, route.dst.addr()));
        requests.replace_route(&RouteSpec {
            destination: route.dst,
            gateway,
            link: link.index,
            priority: route.priority,
            table: route.table,
            mtu: route.mtu,
            advmss: route.advmss,
        });
    }
    requests.send(&mut socket).map_err(netlink)?;
    Ok(link.mtu)
}

/// A route without gateway goes by the one of the first address of its family.
fn gateway_of_family(result: &NetworkResult, like: IpAddr) -> Option<IpAddr> {
    result
        .ips
        .iter()
        .find(|ip| ip.address.addr().is_ipv4() == like.is_ipv4())
        .and_then(|ip| ip.gateway)
}
