//! CHECK of a pod's interface.

use crioxide_cni::{Call, NetworkResult, PluginError, error_code};
use crioxide_netlink::{NetlinkError, RouteSocket};

/// Compares interface, addresses and routes with the result of ADD.
pub(crate) fn check(
    plugin: &str,
    call: &Call<'_>,
    result: &NetworkResult,
    pod: &mut RouteSocket,
) -> Result<(), PluginError> {
    let netlink = |error: NetlinkError| PluginError::caused(plugin, error_code::FAILED, &error);
    let differs = |message: String| PluginError::reported(plugin, error_code::FAILED, message);
    let link = pod
        .link_by_name(call.ifname)
        .map_err(netlink)?
        .ok_or_else(|| differs(format!("interface `{}` is missing in the pod", call.ifname)))?;
    if !link.up {
        return Err(differs(format!(
            "interface `{}` is down in the pod",
            call.ifname
        )));
    }
    let recorded = result
        .interfaces
        .iter()
        .find(|entry| !entry.sandbox.is_empty() && entry.name == call.ifname);
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if recorded.is_some_and(|entry| !entry.mac.is_empty() && entry.mac != mac) {
        return Err(differs(format!(
            "interface `{}` has another hardware address, {mac}",
            call.ifname
        )));
    }
    let addresses = pod.addresses(link.index).map_err(netlink)?;
    if let Some(ip) = result
        .ips
        .iter()
        .find(|ip| !addresses.contains(&ip.address))
    {
        return Err(differs(format!(
            "address {} is missing on `{}`",
            ip.address, call.ifname
        )));
    }
    let routes = pod.routes(link.index).map_err(netlink)?;
    for route in &result.routes {
        let present = routes.iter().any(|found| {
            let destination_is_equal = match found.destination {
                Some(destination) => destination == route.dst.network(),
                None => route.dst.prefix_len() == 0 && same_family(found.gateway, route.dst.addr()),
            };
            destination_is_equal && found.prefix_len == route.dst.prefix_len()
        });
        if !present {
            return Err(differs(format!("route to {} is missing", route.dst)));
        }
    }
    Ok(())
}

/// A default route names no destination; its gateway tells the family.
fn same_family(gateway: Option<std::net::IpAddr>, like: std::net::IpAddr) -> bool {
    gateway.is_none_or(|gateway| gateway.is_ipv4() == like.is_ipv4())
}
