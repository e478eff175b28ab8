//! A pod's interface: addresses, routes, up. All in one visit to its namespace.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crioxide_cni::{Interface, NetworkResult, PluginError, error_code};
use crioxide_netlink::{
    Detection, Link, LinkRequests, MacAddress, NetlinkError, Netns, RouteSocket, RouteSpec,
};

use crate::sysctl;

/// How long others may take to say that they have an address.
const DETECTION: Duration = Duration::from_secs(5);
const DETECTION_PAUSE: Duration = Duration::from_millis(10);

/// What else is wanted of a pod's interface.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Wishes {
    pub(crate) mtu: Option<u32>,
    pub(crate) mac: Option<MacAddress>,
    /// It is not brought up.
    pub(crate) stays_down: bool,
    /// IPv6 addresses are used when nobody answers for them.
    pub(crate) detects_duplicates: bool,
}

/// Configures interface `ifname` of the pod by `result`, and returns it as it was but for what was wished.
pub(crate) fn configure(
    plugin: &str,
    netns: &Netns,
    ifname: &str,
    result: &NetworkResult,
    wishes: Wishes,
) -> Result<Link, PluginError> {
    netns
        .run(|| configure_here(plugin, ifname, result, wishes))
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
    wishes: Wishes,
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
    if let Some(mtu) = wishes.mtu.filter(|mtu| *mtu != link.mtu) {
        requests.set_mtu(link.index, mtu);
        link.mtu = mtu;
    }
    if let Some(mac) = wishes.mac.filter(|mac| Some(*mac) != link.mac) {
        requests.set_mac(link.index, mac);
        link.mac = Some(mac);
    }
    if wishes.stays_down {
        requests.send(&mut socket).map_err(netlink)?;
        return Ok(link);
    }
    for ip in &result.ips {
        if wishes.detects_duplicates && ip.address.addr().is_ipv6() {
            requests.add_address_to_detect(link.index, ip.address);
        } else {
            requests.add_address(link.index, ip.address);
        }
    }
    requests.set_up(link.index);
    if wishes.detects_duplicates {
        for (key, value) in [("enhanced_dad", "1"), ("accept_dad", "1")] {
            sysctl::set_if_present(&format!("ipv6/conf/{ifname}/{key}"), value)
                .map_err(|error| failed(plugin, &error))?;
        }
        std::mem::take(&mut requests)
            .send(&mut socket)
            .map_err(netlink)?;
        wait_for_detection(plugin, &mut socket, &link, result)?;
    }
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

fn wait_for_detection(
    plugin: &str,
    socket: &mut RouteSocket,
    link: &Link,
    result: &NetworkResult,
) -> Result<(), PluginError> {
    let end = Instant::now() + DETECTION;
    let addresses = result.ips.iter().map(|ip| ip.address.addr());
    let v6 = addresses.filter(IpAddr::is_ipv6).map(|ip| ip.to_string());
    let refuse = |reason: &str| {
        let shown: Vec<_> = v6.clone().collect();
        let message = format!("{reason} {} of `{}`", shown.join(", "), link.name);
        Err(PluginError::reported(plugin, error_code::FAILED, message))
    };
    loop {
        match socket.detection(link.index) {
            Err(error) => return Err(failed(plugin, &error)),
            Ok(Detection::Done) => return Ok(()),
            Ok(Detection::Duplicate) => return refuse("somebody else has one of the addresses"),
            Ok(Detection::Pending) if Instant::now() > end => {
                return refuse("it could not be found out whether somebody else has");
            }
            Ok(Detection::Pending) => std::thread::sleep(DETECTION_PAUSE),
        }
    }
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
