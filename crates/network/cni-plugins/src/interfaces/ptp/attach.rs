//! ADD: address, veth pair, routes on both ends; undone in reverse when a step fails.

use std::net::IpAddr;

use crioxide_cni::{Call, Interface, NetworkResult, PluginError, error_code};
use crioxide_netlink::{
    LinkRequests, MacAddress, NetlinkError, Netns, RouteSocket, RouteSpec, VethSpec,
};
use ipnet::IpNet;

use super::{Keys, NAME, failed};
use crate::configuration::{invalid, open_netns};
use crate::rules::masquerade::Masquerade;
use crate::{
    interfaces::pod_side::{self, Wishes},
    ipam, links, sysctl,
};

pub(super) fn attach(
    call: &Call<'_>,
    keys: &Keys,
    masquerade: Option<Masquerade<'_>>,
) -> Result<NetworkResult, PluginError> {
    let netns = open_netns(NAME, call)?;
    let (mut result, reserved) = ipam::reserve(NAME, call)?;
    if result.ips.is_empty() {
        return Err(invalid(NAME, "`ipam` is needed"));
    }
    for ip in &mut result.ips {
        // The host answers as the gateway.
        if ip.gateway.is_none() {
            ip.gateway = ip.address.hosts().next();
        }
    }
    enable_forwarding(&result)?;
    let mut socket = RouteSocket::open().map_err(|error| failed(&error))?;
    let host = create_pair(&mut socket, call, keys, &netns)?;
    let connected: Result<Interface, PluginError> = (|| {
        let pod = connect_pod(call, &netns, &result)?;
        connect_host(&mut socket, &host.name, &result)?;
        if let Some(masquerade) = masquerade {
            masquerade
                .add(&result.ips)
                .map_err(|error| failed(&error))?;
        }
        socket
            .settle_link(&host.name)
            .map_err(|error| failed(&error))?;
        Ok(pod)
    })();
    let pod = connected.inspect_err(|_| {
        links::delete_or_warn(&host.name);
        if let Some(masquerade) = masquerade
            && let Err(error) = masquerade.remove(None)
        {
            tracing::warn!(%error, "masquerading not undone");
        }
    })?;
    reserved.keep();
    result.interfaces = vec![host, pod];
    for ip in &mut result.ips {
        ip.interface = Some(1);
    }
    Ok(result)
}

fn create_pair(
    socket: &mut RouteSocket,
    call: &Call<'_>,
    keys: &Keys,
    netns: &Netns,
) -> Result<Interface, PluginError> {
    let mac = MacAddress::generate().map_err(|error| failed(&error))?;
    let peer_mac = MacAddress::generate().map_err(|error| failed(&error))?;
    let [_, _, a, b, c, d] = mac.bytes();
    let name = format!("veth{a:02x}{b:02x}{c:02x}{d:02x}");
    let mut requests = LinkRequests::default();
    requests.create_veth(&VethSpec {
        name: &name,
        mac,
        peer_name: call.ifname,
        peer_mac,
        peer_netns: netns,
        mtu: (keys.mtu > 0).then_some(keys.mtu),
        master: None,
    });
    requests.send(socket).map_err(|error| failed(&error))?;
    Ok(Interface {
        name,
        mac: mac.to_string(),
        ..Interface::default()
    })
}

/// Everything, also what is in the pod's subnet, goes by the gateway: nobody else is on the link.
fn connect_pod(
    call: &Call<'_>,
    netns: &Netns,
    result: &NetworkResult,
) -> Result<Interface, PluginError> {
    let netlink = |error: NetlinkError| failed(&error);
    // The sysctls and the link's state; addresses and routes are not the usual ones.
    let link = pod_side::configure(
        NAME,
        netns,
        call.ifname,
        &NetworkResult::default(),
        Wishes::default(),
    )?;
    let has_v6 = result.ips.iter().any(|ip| ip.address.addr().is_ipv6());
    if has_v6 {
        netns
            .run(|| sysctl::set(&format!("ipv6/conf/{}/disable_ipv6", call.ifname), "0"))
            .map_err(|error| failed(&error))?
            .map_err(|error| failed(&error))?;
    }
    let mut requests = LinkRequests::default();
    for ip in &result.ips {
        requests.add_address_only(link.index, ip.address);
    }
    for ip in &result.ips {
        let Some(gateway) = ip.gateway else { continue };
        let source = Some(ip.address.addr());
        requests.replace_route(&RouteSpec {
            source,
            ..RouteSpec::new(IpNet::from(gateway), link.index)
        });
        requests.replace_route(&RouteSpec {
            gateway: Some(gateway),
            source,
            ..RouteSpec::new(ip.address.trunc(), link.index)
        });
    }
    for route in &result.routes {
        requests.replace_route(&RouteSpec {
            gateway: route
                .gw
                .or_else(|| pod_side::gateway_of_family(result, route.dst.addr())),
            priority: route.priority,
            table: route.table,
            mtu: route.mtu,
            advmss: route.advmss,
            ..RouteSpec::new(route.dst, link.index)
        });
    }
    let mut socket = RouteSocket::open_in(netns).map_err(netlink)?;
    requests.send(&mut socket).map_err(netlink)?;
    Ok(pod_side::describe(&link, netns))
}

/// The host has the gateways' addresses, and a route to each of the pod's.
fn connect_host(
    socket: &mut RouteSocket,
    name: &str,
    result: &NetworkResult,
) -> Result<(), PluginError> {
    let netlink = |error: NetlinkError| failed(&error);
    let link = socket.link_by_name(name).map_err(netlink)?.ok_or_else(|| {
        PluginError::reported(NAME, error_code::FAILED, format!("link `{name}` vanished"))
    })?;
    sysctl::set_if_present(&format!("ipv6/conf/{name}/accept_ra"), "0")
        .map_err(|error| failed(&error))?;
    let mut requests = LinkRequests::default();
    for ip in &result.ips {
        if let Some(gateway) = ip.gateway {
            requests.add_address(link.index, IpNet::from(gateway));
        }
    }
    for ip in &result.ips {
        let pod: IpAddr = ip.address.addr();
        const HOST_SCOPE: u8 = 254;
        requests.replace_route(&RouteSpec {
            scope: pod.is_ipv4().then_some(HOST_SCOPE),
            ..RouteSpec::new(IpNet::from(pod), link.index)
        });
    }
    requests.send(socket).map_err(netlink)
}

fn enable_forwarding(result: &NetworkResult) -> Result<(), PluginError> {
    let has = |v4: bool| {
        result
            .ips
            .iter()
            .any(|ip| ip.address.addr().is_ipv4() == v4)
    };
    if has(true) {
        sysctl::set("ipv4/ip_forward", "1").map_err(|error| failed(&error))?;
    }
    if has(false) {
        sysctl::set("ipv6/conf/all/forwarding", "1").map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Takes the host's end down: the routes to the pod go, and its address can be given to another pod
/// before the namespace is gone.
pub(super) fn take_down(name: &str) -> Result<(), NetlinkError> {
    let mut socket = RouteSocket::open()?;
    let Some(link) = socket.link_by_name(name)? else {
        return Ok(());
    };
    let mut requests = LinkRequests::default();
    requests.set_down(link.index);
    links::ignore_missing(requests.send(&mut socket))
}
