//! CHECK: is the pod still connected as its result says?

use crioxide_cni::{Call, NetworkResult, PluginError, error_code};
use crioxide_netlink::{NetlinkError, RouteSocket};

use super::configuration::Settings;
use super::{NAME, failed, host_port};
use crate::configuration::{network_name, open_netns, previous_result};
use crate::masquerade;
use crate::sockets::NftSockets;

pub(super) fn check(
    call: &Call<'_>,
    settings: &Settings,
    sockets: &NftSockets,
) -> Result<(), PluginError> {
    let netlink = |error: NetlinkError| failed(&error);
    let result =
        previous_result(NAME, call)?.ok_or_else(|| differs("there is no previous result"))?;
    let netns = open_netns(NAME, call)?;
    let mut host = RouteSocket::open().map_err(netlink)?;
    let bridge = host
        .link_by_name(&settings.bridge)
        .map_err(netlink)?
        .filter(|link| link.kind == "bridge")
        .ok_or_else(|| differs(format!("bridge `{}` is missing", settings.bridge)))?;
    let port_name = host_port(&result, settings)
        .ok_or_else(|| differs("the result names no host interface"))?;
    let port = host
        .link_by_name(port_name)
        .map_err(netlink)?
        .ok_or_else(|| differs(format!("host interface `{port_name}` is missing")))?;
    if port.master != Some(bridge.index) {
        return Err(differs(format!(
            "host interface `{port_name}` is no port of `{}`",
            settings.bridge
        )));
    }
    if settings.hairpin && !port.hairpin {
        return Err(differs(format!(
            "host interface `{port_name}` has no hairpin mode"
        )));
    }
    let mut pod = RouteSocket::open_in(&netns).map_err(netlink)?;
    check_pod(call, &result, &mut pod)?;
    if settings.ip_masq
        && !masquerade::is_in_place(sockets, network_name(NAME, call)?, &result.ips)
            .map_err(netlink)?
    {
        return Err(differs("masquerading is not in place"));
    }
    Ok(())
}

fn check_pod(
    call: &Call<'_>,
    result: &NetworkResult,
    pod: &mut RouteSocket,
) -> Result<(), PluginError> {
    let netlink = |error: NetlinkError| failed(&error);
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

fn differs(message: impl Into<String>) -> PluginError {
    PluginError::reported(NAME, error_code::FAILED, message)
}
