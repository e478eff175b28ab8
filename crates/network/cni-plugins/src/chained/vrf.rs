//! Putting the pod's interface into a routing domain of its own.

use crioxide_cni::{Call, Plugin, PluginError, error_code};
use crioxide_netlink::{Link, LinkKind, LinkRequests, LinkSpec, NetlinkError, Netns, RouteSocket};
use serde::Deserialize;
use serde_json::Value;

use crate::chained::required_result;
use crate::configuration::{invalid, open_netns, read, versions};

const NAME: &str = "vrf";
const MAIN_TABLE: u32 = 254;
const LOCAL_TABLE: u32 = 255;

/// Makes VRF devices in pods.
#[derive(Debug)]
pub(crate) struct Vrf;

#[derive(Deserialize)]
struct Keys {
    vrfname: String,
    #[serde(default)]
    table: u32,
}

impl Plugin for Vrf {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let keys = keys(call)?;
        let result = required_result(NAME, call)?;
        let netns = open_netns(NAME, call)?;
        let mut pod = RouteSocket::open_in(&netns).map_err(netlink)?;
        let link = interface(&mut pod, call.ifname)?;
        let vrf = ensure(&mut pod, &keys)?;
        if link.master != Some(vrf.index) {
            enslave(&mut pod, &link, &vrf)?;
        }
        Ok(result.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let keys = keys(call)?;
        let Some(Ok(netns)) = call.netns.map(Netns::open) else {
            return Ok(());
        };
        let mut pod = RouteSocket::open_in(&netns).map_err(netlink)?;
        let Some(vrf) = pod.link_by_name(&keys.vrfname).map_err(netlink)? else {
            return Ok(());
        };
        let mut requests = LinkRequests::default();
        let members = members(&mut pod, &vrf)?;
        if let Some(link) = members.iter().find(|link| link.name == call.ifname) {
            requests.set_master(link.index, None);
        }
        if members.iter().all(|link| link.name == call.ifname) {
            requests.delete_link(&keys.vrfname);
        }
        requests.send(&mut pod).map_err(netlink)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let keys = keys(call)?;
        let netns = open_netns(NAME, call)?;
        let mut pod = RouteSocket::open_in(&netns).map_err(netlink)?;
        let vrf = pod.link_by_name(&keys.vrfname).map_err(netlink)?;
        let link = interface(&mut pod, call.ifname)?;
        let is_member = vrf.is_some_and(|vrf| {
            link.master == Some(vrf.index) && (keys.table == 0 || vrf.vrf_table == Some(keys.table))
        });
        if is_member {
            return Ok(());
        }
        let message = format!(
            "interface `{}` is not in VRF `{}`",
            call.ifname, keys.vrfname
        );
        Err(PluginError::reported(NAME, error_code::FAILED, message))
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        keys(call).map(drop)
    }

    fn gc(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

fn keys(call: &Call<'_>) -> Result<Keys, PluginError> {
    let keys: Keys = read(NAME, call)?;
    if keys.vrfname.is_empty() || keys.vrfname.len() > 15 || keys.vrfname.contains(['/', ':', ' '])
    {
        return Err(invalid(NAME, "`vrfname` must be an interface name"));
    }
    Ok(keys)
}

/// The VRF device, made if missing, up.
fn ensure(pod: &mut RouteSocket, keys: &Keys) -> Result<Link, PluginError> {
    let links = pod.links().map_err(netlink)?;
    if let Some(found) = links.iter().find(|link| link.name == keys.vrfname) {
        let fits = found.kind == "vrf" && (keys.table == 0 || found.vrf_table == Some(keys.table));
        if !fits {
            let message = format!("link `{}` exists and is another one", keys.vrfname);
            return Err(invalid(NAME, message));
        }
        return Ok(found.clone());
    }
    let table = if keys.table == 0 {
        free_table(&links)
    } else {
        keys.table
    };
    let mut requests = LinkRequests::default();
    requests.create_link(&LinkSpec {
        name: &keys.vrfname,
        kind: LinkKind::Vrf(table),
        netns: None,
        parent: None,
        mac: None,
        mtu: None,
    });
    requests.send(pod).map_err(netlink)?;
    let vrf = interface(pod, &keys.vrfname)?;
    let mut requests = LinkRequests::default();
    requests.set_up(vrf.index);
    requests.send(pod).map_err(netlink)?;
    Ok(vrf)
}

/// The first table that no other VRF has and that is none of the kernel's.
fn free_table(links: &[Link]) -> u32 {
    let used: Vec<_> = links.iter().filter_map(|link| link.vrf_table).collect();
    (1..)
        .find(|table| !used.contains(table) && !(MAIN_TABLE - 1..=LOCAL_TABLE).contains(table))
        .unwrap_or(1)
}

/// Joining a VRF moves the interface's routes to the VRF's table, except those that the kernel
/// drops: IPv6 addresses that are not link-local, and routes by gateways.
fn enslave(pod: &mut RouteSocket, link: &Link, vrf: &Link) -> Result<(), PluginError> {
    let addresses = pod.addresses(link.index).map_err(netlink)?;
    let routes = pod.routes(link.index).map_err(netlink)?;
    let table = vrf.vrf_table.unwrap_or(MAIN_TABLE);
    let mut requests = LinkRequests::default();
    requests.set_master(link.index, Some(vrf.index));
    requests.send(pod).map_err(netlink)?;

    let left = pod.addresses(link.index).map_err(netlink)?;
    let mut requests = LinkRequests::default();
    for address in addresses.iter().filter(|address| !left.contains(address)) {
        requests.add_address(link.index, *address);
    }
    let by_gateway = routes
        .iter()
        .filter(|route| route.is_unicast && route.table == MAIN_TABLE && route.gateway.is_some());
    for route in by_gateway.filter_map(|route| route.to_spec(table)) {
        requests.replace_route(&route);
    }
    requests.send(pod).map_err(netlink)
}

fn members(pod: &mut RouteSocket, vrf: &Link) -> Result<Vec<Link>, PluginError> {
    let links = pod.links().map_err(netlink)?.into_iter();
    Ok(links
        .filter(|link| link.master == Some(vrf.index))
        .collect())
}

fn interface(pod: &mut RouteSocket, name: &str) -> Result<Link, PluginError> {
    pod.link_by_name(name).map_err(netlink)?.ok_or_else(|| {
        let message = format!("the pod has no interface `{name}`");
        PluginError::reported(NAME, error_code::FAILED, message)
    })
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn netlink(error: NetlinkError) -> PluginError {
    PluginError::caused(NAME, error_code::FAILED, &error)
}
