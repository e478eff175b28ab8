//! ADD: address, bridge, veth pair, pod side; undone in reverse when a step fails.

use std::net::IpAddr;

use crioxide_cni::{Call, Interface, NetworkResult, PluginError, Route};
use crioxide_netlink::{Link, RouteSocket};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::configuration::Settings;
use super::device::{ensure_bridge, ensure_gateways};
use super::port::{create_pair, use_pair};
use super::{Bridge, NAME, failed, vlan_gateway};
use crate::configuration::{invalid, open_netns};
use crate::interfaces::pod_side::{self, Wishes};
use crate::rules::masquerade::Masquerade;
use crate::rules::spoof_check::SpoofCheck;
use crate::{ipam, links};

/// What was made so far, and goes away unless [`Undo::keep`] is called.
struct Undo<'a> {
    call: &'a Call<'a>,
    addresses: bool,
    masquerade: Option<Masquerade<'a>>,
    spoof_check: Option<SpoofCheck<'a>>,
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
        spoof_check: None,
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
    let gateway = match settings.port.vlans.native {
        Some(vlan) if settings.is_gateway && !result.ips.is_empty() => {
            let link = vlan_gateway::ensure(&mut socket, settings, &bridge, vlan)?;
            ensure_gateways(&mut socket, settings, &link, &result.ips)?;
            Some(link)
        }
        _ if settings.is_gateway => {
            ensure_gateways(&mut socket, settings, &bridge, &result.ips)?;
            None
        }
        _ => None,
    };
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
    let pod_mac = settings.mac.unwrap_or(pair.pod_mac);
    if settings.checks_spoofing {
        undo.spoof_check = Some(plugin.spoof_check(call));
        plugin
            .spoof_check(call)
            .set_up(&pair.host, pod_mac)
            .map_err(|error| failed(&error))?;
    }
    let wishes = Wishes {
        mtu: settings.mtu,
        mac: settings.mac,
        stays_down: settings.leaves_pod_alone,
        detects_duplicates: settings.detects_duplicates,
    };
    let mtu = pod_side::configure(NAME, &netns, call.ifname, &result, wishes)?.mtu;
    if !settings.leaves_pod_alone {
        // Without this the first packets of a few pods in a hundred are lost for a second.
        socket
            .settle_link(&pair.host)
            .map_err(|error| failed(&error))?;
    }

    result.interfaces = vec![
        on_host(&bridge),
        Interface {
            name: pair.host,
            mac: pair.host_mac.to_string(),
            mtu: Some(mtu),
            ..Interface::default()
        },
        Interface {
            name: call.ifname.to_owned(),
            mac: pod_mac.to_string(),
            mtu: Some(mtu),
            sandbox: netns.path().to_string_lossy().into_owned(),
            ..Interface::default()
        },
    ];
    result.interfaces.extend(gateway.as_ref().map(on_host));
    for ip in &mut result.ips {
        ip.interface = Some(2);
    }
    if !settings.dns.is_empty() {
        result.dns = settings.dns.clone();
    }
    undo.keep();
    Ok(result)
}

fn on_host(link: &Link) -> Interface {
    Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(link.mtu),
        ..Interface::default()
    }
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

impl Undo<'_> {
    fn keep(mut self) {
        self.addresses = false;
        self.masquerade = None;
        self.spoof_check = None;
        self.veth = None;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if let Some(host) = &self.veth {
            links::delete_or_warn(host);
        }
        if let Some(check) = &self.spoof_check
            && let Err(error) = check.remove()
        {
            tracing::warn!(%error, "check of hardware addresses not undone");
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
