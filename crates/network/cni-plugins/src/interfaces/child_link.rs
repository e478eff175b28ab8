//! Plugins that put one link into the pod: macvlan, ipvlan, vlan and dummy.

mod settings;

use crioxide_cni::{Call, Fate, NetworkResult, Plugin, PluginError, error_code};
use crioxide_netlink::{
    Link, LinkKind, LinkRequests, LinkSpec, MacAddress, NetlinkError, Netns, RouteSocket,
};
use serde_json::Value;

use crate::configuration::{invalid, open_netns, previous_result, versions};
use crate::{
    interfaces::pod_side::{self, Wishes},
    ipam, links, pod_check, sysctl,
};
use settings::Settings;

/// One of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChildLink {
    MacVlan,
    IpVlan,
    Vlan,
    Dummy,
}

impl ChildLink {
    fn name(self) -> &'static str {
        match self {
            Self::MacVlan => "macvlan",
            Self::IpVlan => "ipvlan",
            Self::Vlan => "vlan",
            Self::Dummy => "dummy",
        }
    }

    fn failed(self, error: &dyn std::error::Error) -> PluginError {
        PluginError::caused(self.name(), error_code::FAILED, error)
    }

    fn differs(self, message: String) -> PluginError {
        PluginError::reported(self.name(), error_code::FAILED, message)
    }

    /// Makes the link, with its final name, directly inside the pod.
    fn create(self, settings: &Settings, netns: &Netns, ifname: &str) -> Result<(), PluginError> {
        let netlink = |error: NetlinkError| self.failed(&error);
        let mut socket = settings.parent_socket(netns).map_err(netlink)?;
        let parent = self.parent(settings, &mut socket)?;
        let parent_mtu = parent.as_ref().map_or(u32::MAX, |link| link.mtu);
        if settings.mtu.is_some_and(|mtu| mtu > parent_mtu) {
            return Err(invalid(
                self.name(),
                format!("`mtu` must be from 0 to the master's {parent_mtu}"),
            ));
        }
        // The others share their parent's address.
        let mac = match (settings.mac, self) {
            (Some(mac), _) => Some(mac),
            (None, Self::MacVlan | Self::Dummy) => {
                Some(MacAddress::generate().map_err(|error| self.failed(&error))?)
            }
            (None, _) => None,
        };
        let mut requests = LinkRequests::default();
        requests.create_link(&LinkSpec {
            name: ifname,
            kind: settings.kind,
            netns: Some(netns),
            parent: parent.map(|link| link.index),
            mac,
            mtu: settings.mtu,
        });
        requests.send(&mut socket).map_err(netlink)
    }

    fn parent(
        self,
        settings: &Settings,
        socket: &mut RouteSocket,
    ) -> Result<Option<Link>, PluginError> {
        let netlink = |error: NetlinkError| self.failed(&error);
        if self == Self::Dummy {
            return Ok(None);
        }
        let found = if settings.master.is_empty() {
            let outwards = socket
                .route_to(std::net::IpAddr::from([192, 0, 2, 1]))
                .map_err(netlink)?;
            let links = socket.links().map_err(netlink)?;
            links
                .into_iter()
                .find(|link| Some(link.index) == outwards.link)
        } else {
            socket.link_by_name(&settings.master).map_err(netlink)?
        };
        found.map(Some).ok_or_else(|| {
            invalid(
                self.name(),
                format!("`master`: there is no link `{}`", settings.master),
            )
        })
    }

    /// Addresses, announcements, up.
    fn configure(
        self,
        call: &Call<'_>,
        netns: &Netns,
        result: &mut NetworkResult,
    ) -> Result<(), PluginError> {
        if self == Self::MacVlan {
            // Neighbours may still know the address by the Ethernet address of an earlier pod.
            let announce = || {
                sysctl::set_if_present(&format!("ipv4/conf/{}/arp_notify", call.ifname), "1")?;
                sysctl::set_if_present(&format!("ipv6/conf/{}/ndisc_notify", call.ifname), "1")
            };
            netns
                .run(announce)
                .map_err(|error| self.failed(&error))?
                .map_err(|error| self.failed(&error))?;
        }
        let link = pod_side::configure(self.name(), netns, call.ifname, result, Wishes::default())?;
        result.interfaces = vec![pod_side::describe(&link, netns)];
        for ip in &mut result.ips {
            ip.interface = Some(0);
        }
        Ok(())
    }
}

impl Plugin for ChildLink {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let settings = Settings::read(*self, call)?;
        let netns = open_netns(self.name(), call)?;
        // Addresses of an earlier plugin of the list are used when there is no address management.
        let chained = previous_result(self.name(), call)?
            .filter(|_| *self == Self::IpVlan && ipam::plugin_type(call).is_none());
        self.create(&settings, &netns, call.ifname)?;
        let made: Result<Value, PluginError> = (|| {
            let (mut result, reserved) = ipam::reserve(self.name(), call)?;
            if let Some(chained) = chained {
                result = chained;
            }
            if result.ips.is_empty() && matches!(self, Self::Vlan | Self::Dummy) {
                return Err(invalid(self.name(), "`ipam` is needed"));
            }
            self.configure(call, &netns, &mut result)?;
            reserved.keep();
            Ok(result.to_value(call.version))
        })();
        if made.is_err()
            && let Err(error) = links::delete_in(netns.path(), call.ifname)
        {
            tracing::warn!(%error, link = call.ifname, "link not removed");
        }
        made
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let released = ipam::del(ipam::plugin_type(call), call);
        // A namespace that is dropped takes its links along.
        let deleted = match (call.fate, call.netns) {
            (Fate::Kept, Some(path)) => links::delete_in(path, call.ifname),
            _ => Ok(()),
        };
        released.and(deleted.map_err(|error| self.failed(&error)))
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let netlink = |error: NetlinkError| self.failed(&error);
        let settings = Settings::read(*self, call)?;
        ipam::check(ipam::plugin_type(call), call)?;
        let result = previous_result(self.name(), call)?
            .ok_or_else(|| self.differs("there is no previous result".to_owned()))?;
        let netns = open_netns(self.name(), call)?;
        let mut pod = RouteSocket::open_in(&netns).map_err(netlink)?;
        pod_check::check(self.name(), call, &result, &mut pod)?;
        let link = pod.link_by_name(call.ifname).map_err(netlink)?;
        let kind = link.as_ref().map(|link| link.kind.as_str());
        if kind != Some(self.name()) {
            return Err(self.differs(format!(
                "interface `{}` is {}, not {}",
                call.ifname,
                kind.unwrap_or("missing"),
                self.name()
            )));
        }
        let wanted = match settings.kind {
            LinkKind::Vlan(id) => Some(id),
            _ => None,
        };
        if link.and_then(|link| link.vlan_id) != wanted {
            return Err(self.differs(format!("interface `{}` has another tag", call.ifname)));
        }
        let mut socket = settings.parent_socket(&netns).map_err(netlink)?;
        self.parent(&settings, &mut socket).map(drop)
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let settings = Settings::read(*self, call)?;
        if !settings.in_pod && !settings.master.is_empty() {
            let mut socket = RouteSocket::open().map_err(|error| self.failed(&error))?;
            self.parent(&settings, &mut socket)?;
        }
        ipam::status(call)
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), PluginError> {
        ipam::gc(call)
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}
