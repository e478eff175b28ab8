//! ADD: address, bridge, veth pair, pod side; undone in reverse when a step fails.

use std::net::IpAddr;

use crioxide_cni::{Call, Interface, NetworkResult, PluginError, Route, error_code};
use crioxide_netlink::{LinkRequests, Netns, RouteSocket, VethSpec};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use rustix::io::Errno;

use super::configuration::Settings;
use super::device::{ensure_bridge, ensure_gateways};
use super::{Bridge, NAME, failed};
use crate::configuration::{invalid, open_netns};
use crate::interfaces::spares::Pair;
use crate::rules::masquerade::Masquerade;
use crate::{interfaces::pod_side, ipam, links};

/// Names are random; a taken one is simply replaced.
const NAME_TRIES: u32 = 4;

/// What was made so far, and goes away unless [`Undo::keep`] is called.
struct Undo<'a> {
    call: &'a Call<'a>,
    addresses: bool,
    masquerade: Option<Masquerade<'a>>,
    veth: Option<String>,
}

pub(super) fn attach(
    plugin: &Bridge,
    call: &Call<'_>,
    settings: &Settings,
) -> Result<NetworkResult, PluginError> {
    let netns = open_netns(NAME, call)?;
    let masquerade = plugin.masquerade(call, settings)?;
    let mut socket = RouteSocket::open().map_err(|error| failed(&error))?;
    let bridge = ensure_bridge(&mut socket, settings)?;
    let mut undo = Undo {
        call,
        addresses: false,
        masquerade: None,
        veth: None,
    };

    let mut result = match ipam::plugin_type(call) {
        Some(ipam) => {
            let result = ipam::add(NAME, ipam, call)?;
            undo.addresses = true;
            result
        }
        None => NetworkResult::default(),
    };
    complete_gateways(&mut result, settings)?;
    if settings.is_gateway {
        ensure_gateways(&mut socket, settings, &bridge, &result.ips)?;
    }
    if let Some(masquerade) = masquerade.filter(|_| !result.ips.is_empty()) {
        undo.masquerade = Some(masquerade);
        masquerade
            .add(&result.ips)
            .map_err(|error| failed(&error))?;
    }

    let spare = plugin
        .pairs
        .take(netns.path())
        .filter(|pair| pair.pod == call.ifname);
    let pair = match spare {
        Some(pair) => {
            undo.veth = Some(pair.host.clone());
            use_pair(&mut socket, &pair, settings, bridge.index)?;
            pair
        }
        None => create_pair(&mut socket, call, settings, &netns, bridge.index)?,
    };
    undo.veth = Some(pair.host.clone());
    let mtu = pod_side::configure(NAME, &netns, call.ifname, &result, settings.mtu)?.mtu;
    // Without this the first packets of a few pods in a hundred are lost for a second.
    socket
        .settle_link(&pair.host)
        .map_err(|error| failed(&error))?;

    result.interfaces = vec![
        Interface {
            name: settings.bridge.clone(),
            mac: bridge.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            mtu: Some(bridge.mtu),
            ..Interface::default()
        },
        Interface {
            name: pair.host,
            mac: pair.host_mac.to_string(),
            mtu: Some(mtu),
            ..Interface::default()
        },
        Interface {
            name: call.ifname.to_owned(),
            mac: pair.pod_mac.to_string(),
            mtu: Some(mtu),
            sandbox: netns.path().to_string_lossy().into_owned(),
            ..Interface::default()
        },
    ];
    for ip in &mut result.ips {
        ip.interface = Some(2);
    }
    undo.keep();
    Ok(result)
}

/// Fills in gateways that address management left open, and the default routes.
fn complete_gateways(result: &mut NetworkResult, settings: &Settings) -> Result<(), PluginError> {
    if !settings.is_gateway {
        return Ok(());
    }
    for ip in &mut result.ips {
        if ip.gateway.is_none() {
            ip.gateway = ip.address.hosts().next();
        }
        let default = default_route(ip.address.addr());
        if settings.is_default_gateway {
            let other = result
                .routes
                .iter()
                .find(|route| route.dst == default && route.gw.is_some() && route.gw != ip.gateway);
            if let Some(other) = other {
                let gateway = other
                    .gw
                    .map(|gateway| gateway.to_string())
                    .unwrap_or_default();
                return Err(invalid(
                    NAME,
                    format!("`isDefaultGateway` is set, but there is a default route by {gateway}"),
                ));
            }
            if !result.routes.iter().any(|route| route.dst == default) {
                result.routes.push(Route {
                    gw: ip.gateway,
                    ..Route::to(default)
                });
            }
        }
    }
    Ok(())
}

fn default_route(family_of: IpAddr) -> IpNet {
    match family_of {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
    }
}

/// Connects a pair that was made ahead, as [`create_pair`] makes a new one.
fn use_pair(
    socket: &mut RouteSocket,
    pair: &Pair,
    settings: &Settings,
    bridge: u32,
) -> Result<(), PluginError> {
    let mut requests = LinkRequests::default();
    requests.attach(&pair.host, bridge, settings.mtu);
    if settings.hairpin {
        requests.set_hairpin(&pair.host);
    }
    requests.send(socket).map_err(|error| failed(&error))
}

fn create_pair(
    socket: &mut RouteSocket,
    call: &Call<'_>,
    settings: &Settings,
    netns: &Netns,
    bridge: u32,
) -> Result<Pair, PluginError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let pair = Pair::named(call.ifname).map_err(|error| failed(&error))?;
        let mut requests = LinkRequests::default();
        requests.create_veth(&VethSpec {
            mtu: settings.mtu,
            master: Some(bridge),
            ..pair.spec(netns)
        });
        if settings.hairpin {
            requests.set_hairpin(&pair.host);
        }
        match requests.send(socket) {
            Ok(()) => return Ok(pair),
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                let mut pod = RouteSocket::open_in(netns).map_err(|error| failed(&error))?;
                if pod
                    .link_by_name(call.ifname)
                    .map_err(|error| failed(&error))?
                    .is_some()
                {
                    let message = format!("the pod has an interface `{}` already", call.ifname);
                    return Err(PluginError::reported(NAME, error_code::FAILED, message));
                }
                if tries == NAME_TRIES {
                    return Err(failed(&error));
                }
            }
            Err(error) => {
                // The pair may be there without its hairpin mode.
                links::delete_or_warn(&pair.host);
                return Err(failed(&error));
            }
        }
    }
}

impl Undo<'_> {
    fn keep(mut self) {
        self.addresses = false;
        self.masquerade = None;
        self.veth = None;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(host) = &self.veth {
            links::delete_or_warn(host);
        }
        if let Some(masquerade) = self.masquerade
            && let Err(error) = masquerade.remove(None)
        {
            tracing::warn!(%error, "masquerading not undone");
        }
        if self.addresses
            && let Err(error) = ipam::del(ipam::plugin_type(self.call), self.call)
        {
            tracing::warn!(%error, "addresses not given back");
        }
    }
}
