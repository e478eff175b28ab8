//! A pod's interface: addresses, routes, up. All in one visit to its namespace.

use std::net::IpAddr;

use crioxide_cni::{Interface, NetworkResult, PluginError, error_code};
use crioxide_netlink::{Link, LinkRequests, NetlinkError, Netns, RouteSocket, RouteSpec};

use crate::sysctl;

/// Configures interface `ifname` of the pod by `result`, with `mtu` if that is to be another one, and returns it as it was
/// but for that.
pub(crate) fn configure(
    plugin: &str,
    netns: &Netns,
    ifname: &str,
    result: &NetworkResult,
    mtu: Option<u32>,
) -> Result<Link, PluginError> {
    netns
        .run(|| configure_here(plugin, ifname, result, mtu))
        .map_err(|error| failed(plugin, &error))?
}

/// The pod's interface as results describe it.
pub(crate) fn describe(link: &Link, netns: &Netns) -> Interface {
    Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(link.mtu),
        sandbox: netns.path().to_string_lossy().into_owned(),
        ..Interface::default()
    }
}

fn configure_here(
    plugin: &str,
    ifname: &str,
    result: &NetworkResult,
    mtu: Option<u32>,
) -> Result<Link, PluginError> {
    let netlink = |error: NetlinkError| failed(plugin, &error);
    let mut socket = RouteSocket::open().map_err(netlink)?;
    let mut link = socket
        .link_by_name(ifname)
        .map_err(netlink)?
        .ok_or_else(|| {
            PluginError::reported(
                plugin,
                error_code::FAILED,
                format!("interface `{ifname}` vanished from the pod"),
            )
        })?;
    // Routes are ours to give; another pod must not give some by router advertisements.
    sysctl::set_if_present(&format!("ipv6/conf/{ifname}/accept_ra"), "0")
        .map_err(|error| failed(plugin, &error))?;
    if result.ips.iter().any(|ip| ip.address.addr().is_ipv6()) {
        sysctl::set(&format!("ipv6/conf/{ifname}/disable_ipv6"), "0")
            .map_err(|error| failed(plugin, &error))?;
    }
    let mut requests = LinkRequests::default();
    if let Some(mtu) = mtu.filter(|mtu| *mtu != link.mtu) {
        requests.set_mtu(link.index, mtu);
        link.mtu = mtu;
    }
    for ip in &result.ips {
        requests.add_address(link.index, ip.address);
    }
    requests.set_up(link.index);
    for route in &result.routes {
        let gateway = route
            .gw
            .or_else(|| gateway_of_family(result, route.dst.addr()));
        requests.replace_route(&RouteSpec {
            gateway,
            priority: route.priority,
            table: route.table,
            mtu: route.mtu,
            advmss: route.advmss,
            scope: route.scope,
            ..RouteSpec::new(route.dst, link.index)
        });
    }
    requests.send(&mut socket).map_err(netlink)?;
    Ok(link)
}

/// A route without gateway goes by the one of the first address of its family.
pub(crate) fn gateway_of_family(result: &NetworkResult, like: IpAddr) -> Option<IpAddr> {
    result
        .ips
        .iter()
        .find(|ip| ip.address.addr().is_ipv4() == like.is_ipv4())
        .and_then(|ip| ip.gateway)
}

fn failed(plugin: &str, error: &dyn std::error::Error) -> PluginError {
    PluginError::caused(plugin, error_code::FAILED, error)
}
