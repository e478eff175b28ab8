//! CHECK: is the pod still connected as its result says?

use crioxide_cni::{Call, PluginError, error_code};
use crioxide_netlink::{NetlinkError, RouteSocket};

use super::configuration::Settings;
use super::{Bridge, NAME, failed, host_port};
use crate::configuration::{open_netns, previous_result};
use crate::pod_check;

pub(super) fn check(
    plugin: &Bridge,
    call: &Call<'_>,
    settings: &Settings,
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
    if settings.port.hairpin && !port.hairpin {
        return Err(differs(format!(
            "host interface `{port_name}` has no hairpin mode"
        )));
    }
    if settings.port.isolated && !port.isolated {
        return Err(differs(format!(
            "host interface `{port_name}` is not isolated"
        )));
    }
    let wanted = settings.port.vlans.ids();
    if !wanted.is_empty() {
        let present = host.vlans(port.index).map_err(netlink)?;
        if let Some(id) = wanted.iter().find(|id| !present.contains(id)) {
            return Err(differs(format!(
                "host interface `{port_name}` is not in VLAN {id}"
            )));
        }
    }
    if settings.checks_spoofing && !plugin.spoof_check(call).is_in_place().map_err(netlink)? {
        return Err(differs("the pod's hardware address is not checked"));
    }
    let mut pod = RouteSocket::open_in(&netns).map_err(netlink)?;
    if !settings.leaves_pod_alone {
        pod_check::check(NAME, call, &result, &mut pod)?;
    } else if pod.link_by_name(call.ifname).map_err(netlink)?.is_none() {
        return Err(differs(format!(
            "interface `{}` is missing in the pod",
            call.ifname
        )));
    }
    if let Some(masquerade) = plugin.masquerade(call, settings)?
        && !masquerade
            .is_in_place(&result.ips)
            .map_err(|error| failed(&error))?
    {
        return Err(differs("masquerading is not in place"));
    }
    Ok(())
}

fn differs(message: impl Into<String>) -> PluginError {
    PluginError::reported(NAME, error_code::FAILED, message)
}
