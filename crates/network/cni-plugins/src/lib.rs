//! The CNI plugins a machine needs for a pod network, without any program to install: those of the
//! reference set ([`PLUGIN_TYPES`]), and flannel's.
//!
//! They take the configuration and give the results of the reference plugins, and share their files
//! on disk, so that either can undo what the other did. Packet rules are nftables' and differ:
//! masquerading and host ports are elements of sets, not rules per pod.
//!
//! They run as direct calls ([`Builtin`]) or as programs ([`run_as_executable`]).

#![forbid(unsafe_code)]

mod bandwidth;
mod bridge;
mod chained;
mod child_link;
mod configuration;
mod executable;
mod firewall;
mod flannel;
mod host_device;
mod host_local;
mod ipam;
mod iptables;
mod links;
mod loopback;
mod masquerade;
mod owner;
mod pod_check;
mod pod_side;
mod portmap;
mod ptp;
mod removal;
mod sockets;
mod source_routing;
mod static_ipam;
mod sysctl;
mod tuning;
mod vrf;

use std::sync::Arc;

use crioxide_cni::{Plugin, PluginSource};

use child_link::ChildLink;
use sockets::NftSockets;

pub use executable::run_as_executable;
pub use removal::{RemoveNetworkError, remove_network};

/// Types of the plugins in this crate.
pub const PLUGIN_TYPES: [&str; 17] = [
    "bandwidth",
    "bridge",
    "dummy",
    "firewall",
    "flannel",
    "host-device",
    "host-local",
    "ipvlan",
    "loopback",
    "macvlan",
    "portmap",
    "ptp",
    "sbr",
    "static",
    "tuning",
    "vlan",
    "vrf",
];

/// The plugins of this crate. Clones share their sockets.
#[derive(Debug, Clone, Default)]
pub struct Builtin {
    sockets: Arc<NftSockets>,
}

impl PluginSource for Builtin {
    fn plugin(&self, plugin_type: &str) -> Option<Box<dyn Plugin>> {
        Some(match plugin_type {
            "bandwidth" => Box::new(bandwidth::Bandwidth),
            "bridge" => Box::new(bridge::Bridge {
                sockets: Arc::clone(&self.sockets),
            }),
            "dummy" => Box::new(ChildLink::Dummy),
            "firewall" => Box::new(firewall::Firewall),
            "flannel" => Box::new(flannel::Flannel),
            "host-device" => Box::new(host_device::HostDevice),
            "host-local" => Box::new(host_local::HostLocal),
            "ipvlan" => Box::new(ChildLink::IpVlan),
            "loopback" => Box::new(loopback::Loopback),
            "macvlan" => Box::new(ChildLink::MacVlan),
            "portmap" => Box::new(portmap::Portmap {
                sockets: Arc::clone(&self.sockets),
            }),
            "ptp" => Box::new(ptp::PointToPoint {
                sockets: Arc::clone(&self.sockets),
            }),
            "sbr" => Box::new(source_routing::SourceRouting),
            "static" => Box::new(static_ipam::StaticIpam),
            "tuning" => Box::new(tuning::Tuning),
            "vlan" => Box::new(ChildLink::Vlan),
            "vrf" => Box::new(vrf::Vrf),
            _ => return None,
        })
    }
}
