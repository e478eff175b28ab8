//! The keys of plugins that put one link into the pod.

use crioxide_cni::{Call, PluginError};
use crioxide_netlink::{
    IpVlanMode, LinkKind, MacAddress, MacVlanMode, NetlinkError, Netns, RouteSocket,
};
use serde::Deserialize;

use super::ChildLink;
use crate::configuration::{MacOrder, invalid, read, requested_mac};

/// Checked settings of a call.
#[derive(Debug)]
pub(super) struct Settings {
    /// Link it sits on; the one that leads outwards when empty.
    pub(super) master: String,
    pub(super) kind: LinkKind,
    pub(super) mtu: Option<u32>,
    pub(super) mac: Option<MacAddress>,
    /// The master is inside the pod.
    pub(super) in_pod: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default)]
    master: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    mtu: u32,
    vlan_id: Option<u16>,
    #[serde(default)]
    link_in_container: bool,
    #[serde(default, rename = "bcqueuelen")]
    broadcast_queue_len: u32,
}

impl Settings {
    pub(super) fn read(plugin: ChildLink, call: &Call<'_>) -> Result<Self, PluginError> {
        let keys: Keys = read(plugin.name(), call)?;
        let kind = kind(plugin, &keys).map_err(|reason| invalid(plugin.name(), reason))?;
        let mac = requested_mac(plugin.name(), call, MacOrder::RuntimeWins)?;
        if plugin == ChildLink::Vlan && keys.master.is_empty() {
            return Err(invalid(plugin.name(), "`master` is needed"));
        }
        Ok(Self {
            master: keys.master,
            kind,
            mtu: (keys.mtu > 0).then_some(keys.mtu),
            mac,
            in_pod: keys.link_in_container,
        })
    }

    /// A socket where the master is.
    pub(super) fn parent_socket(&self, netns: &Netns) -> Result<RouteSocket, NetlinkError> {
        if self.in_pod {
            RouteSocket::open_in(netns)
        } else {
            RouteSocket::open()
        }
    }
}

fn kind(plugin: ChildLink, keys: &Keys) -> Result<LinkKind, String> {
    let unknown = || Err(format!("unknown `mode` `{}`", keys.mode.escape_default()));
    Ok(match plugin {
        ChildLink::Dummy => LinkKind::Dummy,
        ChildLink::MacVlan => {
            let mode = match keys.mode.as_str() {
                "" | "bridge" => MacVlanMode::Bridge,
                "private" => MacVlanMode::Private,
                "vepa" => MacVlanMode::Vepa,
                "passthru" => MacVlanMode::Passthrough,
                _ => return unknown(),
            };
            let queue = keys.broadcast_queue_len;
            LinkKind::MacVlan(mode, (queue > 0).then_some(queue))
        }
        ChildLink::IpVlan => LinkKind::IpVlan(match keys.mode.as_str() {
            "" | "l2" => IpVlanMode::L2,
            "l3" => IpVlanMode::L3,
            "l3s" => IpVlanMode::L3S,
            _ => return unknown(),
        }),
        ChildLink::Vlan => match keys.vlan_id {
            Some(id @ 0..=4094) => LinkKind::Vlan(id),
            Some(id) => return Err(format!("`vlanId` must be from 0 to 4094, not {id}")),
            None => return Err("`vlanId` is needed".to_owned()),
        },
    })
}
