//! Packets from an interface's addresses leave by that interface (plugin `sbr`).

use std::net::IpAddr;

use crioxide_cni::{Call, IpConfig, NetworkResult, Plugin, PluginError, error_code};
use crioxide_netlink::{
    LinkRequests, NetlinkError, Netns, RouteAnswer, RouteSocket, RouteSpec, SourceRule,
};
use ipnet::IpNet;
use rustix::io::Errno;
use serde::Deserialize;
use serde_json::Value;

use crate::chained::required_result;
use crate::configuration::{invalid, open_netns, previous_result, read, versions};

const NAME: &str = "sbr";
const FIRST_TABLE: u32 = 100;
const MAIN_TABLE: u32 = 254;
/// Of routes to what is on the link itself.
const LINK_SCOPE: u8 = 253;

/// Routes by source address.
#[derive(Debug)]
pub(crate) struct SourceRouting;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    /// The table to use; a free one for each address when not given.
    table: Option<u32>,
    /// Gateways instead of those of the result, one of a family.
    #[serde(default)]
    gateways: Vec<IpAddr>,
    /// Routes to the subnets stay where packets without a source look, and give them the interface's.
    #[serde(default)]
    add_source_hints: bool,
}

impl Keys {
    fn read(call: &Call<'_>) -> Result<Self, PluginError> {
        let keys: Self = read(NAME, call)?;
        for ipv4 in [true, false] {
            let of_family = keys.gateways.iter().filter(|ip| ip.is_ipv4() == ipv4);
            if of_family.count() > 1 {
                return Err(invalid(NAME, "`gateways`: only one of each family"));
            }
        }
        Ok(keys)
    }

    fn gateway(&self, ip: &IpConfig) -> Option<IpAddr> {
        let fits = |gateway: &&IpAddr| gateway.is_ipv4() == ip.address.addr().is_ipv4();
        self.gateways.iter().find(fits).copied().or(ip.gateway)
    }
}

impl Plugin for SourceRouting {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let keys = Keys::read(call)?;
        let result = required_result(NAME, call)?;
        let netns = open_netns(NAME, call)?;
        let mut pod = RouteSocket::open_in(&netns).map_err(netlink)?;
        route_by_source(&mut pod, call, &keys, &result)?;
        Ok(result.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let Some(Ok(netns)) = call.netns.map(Netns::open) else {
            return Ok(());
        };
        let mut pod = RouteSocket::open_in(&netns).map_err(netlink)?;
        let mut own: Vec<IpNet> = previous_result(NAME, call)
            .ok()
            .flatten()
            .map(|result| addresses_of(&result, call.ifname))
            .unwrap_or_default();
        if let Some(link) = pod.link_by_name(call.ifname).map_err(netlink)? {
            own.extend(pod.addresses(link.index).map_err(netlink)?);
        }
        for rule in pod.source_rules().map_err(netlink)? {
            if !own
                .iter()
                .any(|address| address.addr() == rule.source.addr())
            {
                continue;
            }
            let mut requests = LinkRequests::default();
            requests.delete_rule(rule);
            match requests.send(&mut pod) {
                Err(error) if error.errno() == Some(Errno::NOENT) => {}
                done => done.map_err(netlink)?,
            }
        }
        Ok(())
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let result = required_result(NAME, call)?;
        let netns = open_netns(NAME, call)?;
        let mut pod = RouteSocket::open_in(&netns).map_err(netlink)?;
        let rules = pod.source_rules().map_err(netlink)?;
        for address in addresses_of(&result, call.ifname) {
            if !rules
                .iter()
                .any(|rule| rule.source.addr() == address.addr())
            {
                let message = format!("there is no rule for packets from {}", address.addr());
                return Err(PluginError::reported(NAME, error_code::FAILED, message));
            }
        }
        Ok(())
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        Keys::read(call).map(drop)
    }

    fn gc(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

fn route_by_source(
    pod: &mut RouteSocket,
    call: &Call<'_>,
    keys: &Keys,
    result: &NetworkResult,
) -> Result<(), PluginError> {
    let link = pod.link_by_name(call.ifname).map_err(netlink)?;
    let index = link
        .ok_or_else(|| {
            let message = format!("the pod has no interface `{}`", call.ifname);
            PluginError::reported(NAME, error_code::FAILED, message)
        })?
        .index;
    let mut routes = pod.routes(index).map_err(netlink)?;
    routes.retain(|route| route.is_unicast && route.table == MAIN_TABLE);
    let mut requests = LinkRequests::default();
    let mut taken = used_tables(pod)?;
    let own = result.ips.iter().filter(|ip| {
        ip.interface
            .and_then(|at| result.interfaces.get(at))
            .is_none_or(|link| link.name == call.ifname)
    });
    let own: Vec<_> = own.collect();
    for ip in &own {
        let table = match keys.table {
            Some(table) => table,
            None => free_table(&mut taken),
        };
        requests.add_rule(SourceRule {
            source: IpNet::from(ip.address.addr()),
            table,
        });
        if let Some(gateway) = keys.gateway(ip) {
            // The gateway is reached through the subnet's route, which must come first.
            requests.replace_route(&RouteSpec {
                table: Some(table),
                ..RouteSpec::new(ip.address.trunc(), index)
            });
            let everywhere = if gateway.is_ipv4() {
                IpNet::V4(ipnet::Ipv4Net::default())
            } else {
                IpNet::V6(ipnet::Ipv6Net::default())
            };
            requests.replace_route(&RouteSpec {
                gateway: Some(gateway),
                table: Some(table),
                ..RouteSpec::new(everywhere, index)
            });
        }
        // A gateway of the configuration is not to be replaced by that of the default route.
        let is_replaced = keys.gateway(ip) != ip.gateway;
        let fitting = routes.iter().filter(|route| {
            concerns(route, ip.address) && !(is_replaced && route.destination.is_none())
        });
        for route in fitting.filter_map(|route| route.to_spec(table)) {
            requests.replace_route(&route);
        }
    }
    // Only when all are copied: several addresses may share a route. Routes by gateways first, as
    // they depend on the others.
    routes.sort_by_key(|route| route.gateway.is_none());
    if keys.add_source_hints {
        routes.retain(|route| route.gateway.is_some());
    }
    for route in routes.iter().filter_map(|route| route.to_spec(MAIN_TABLE)) {
        requests.delete_route(&route);
    }
    for ip in own.iter().filter(|_| keys.add_source_hints) {
        let source = ip.address.addr();
        requests.replace_route(&RouteSpec {
            source: Some(source),
            scope: source.is_ipv4().then_some(LINK_SCOPE),
            table: Some(MAIN_TABLE),
            ..RouteSpec::new(ip.address.trunc(), index)
        });
    }
    match requests.send(pod) {
        // A route that went together with another one.
        Err(error) if error.errno() == Some(Errno::SRCH) => Ok(()),
        done => done.map_err(netlink),
    }
}

/// Whether a route is for packets from `address`: by its source or gateway, or because it says
/// nothing.
fn concerns(route: &RouteAnswer, address: IpNet) -> bool {
    if route.is_ipv4 != address.addr().is_ipv4() {
        return false;
    }
    let within = |ip: Option<std::net::IpAddr>| ip.is_some_and(|ip| address.contains(&ip));
    within(route.source)
        || within(route.gateway)
        || (route.source.is_none() && route.gateway.is_none())
}

fn used_tables(pod: &mut RouteSocket) -> Result<Vec<u32>, PluginError> {
    let rules = pod.source_rules().map_err(netlink)?;
    let mut used: Vec<_> = rules.iter().map(|rule| rule.table).collect();
    for link in pod.links().map_err(netlink)? {
        let routes = pod.routes(link.index).map_err(netlink)?;
        used.extend(routes.iter().map(|route| route.table));
    }
    Ok(used)
}

fn free_table(taken: &mut Vec<u32>) -> u32 {
    let free = (FIRST_TABLE..).find(|table| !taken.contains(table) && *table < MAIN_TABLE - 1);
    let table = free.unwrap_or(FIRST_TABLE);
    taken.push(table);
    table
}

fn addresses_of(result: &NetworkResult, ifname: &str) -> Vec<IpNet> {
    let own = result.ips.iter().filter(|ip| {
        ip.interface
            .and_then(|at| result.interfaces.get(at))
            .is_none_or(|link| link.name == ifname)
    });
    own.map(|ip| ip.address).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn netlink(error: NetlinkError) -> PluginError {
    PluginError::caused(NAME, error_code::FAILED, &error)
}
