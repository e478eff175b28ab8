//! The CNI plugins a machine needs for a pod network, without any program to install: those of the
//! reference set ([`PLUGIN_TYPES`]), and flannel's.
//!
//! They take the configuration and give the results of the reference plugins, and share their files
//! on disk, so that either can undo what the other did. Packet rules are nftables' and differ:
//! masquerading and host ports are elements of sets, not rules per pod.
//!
//! They run as direct calls ([`Builtin`]) or as programs ([`run_as_executable`]).

#![forbid(unsafe_code)]

mod chained;
mod configuration;
mod executable;
mod flannel;
mod interfaces;
mod ipam;
mod links;
mod pod_check;
mod removal;
mod rules;
mod sysctl;

use std::sync::Arc;

use crioxide_cni::{Plugin, PluginSource};
use crioxide_netlink::NetlinkError;

use interfaces::child_link::ChildLink;
use interfaces::spares::Pairs;
use rules::sockets::NftSockets;

pub use executable::run_as_executable;
pub use interfaces::spares::Spare;
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

/// The plugins of this crate. Clones share their sockets, and what was made ahead.
#[derive(Debug, Clone, Default)]
pub struct Builtin {
    sockets: Arc<NftSockets>,
    pairs: Arc<Pairs>,
}

impl Builtin {
    /// Takes back the host ports that CRI-O, before a pod was handed over to us, mapped to it beside the network's
    /// plugins: its elements in the nftables table `crio-hostports` of the calling thread's network namespace.
    /// None are no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn release_host_ports_of_cri_o(&self, pod: &str) -> Result<(), NetlinkError> {
        chained::portmap::of_cri_o::release(&mut *self.sockets.get()?, pod)
    }
}

impl PluginSource for Builtin {
    fn plugin(&self, plugin_type: &str) -> Option<Box<dyn Plugin>> {
        Some(match plugin_type {
            "bandwidth" => Box::new(chained::bandwidth::Bandwidth),
            "bridge" => Box::new(interfaces::bridge::Bridge {
                sockets: Arc::clone(&self.sockets),
                pairs: Arc::clone(&self.pairs),
            }),
            "dummy" => Box::new(ChildLink::Dummy),
            "firewall" => Box::new(chained::firewall::Firewall),
            "flannel" => Box::new(flannel::Flannel),
            "host-device" => Box::new(interfaces::host_device::HostDevice),
            "host-local" => Box::new(ipam::host_local::HostLocal),
            "ipvlan" => Box::new(ChildLink::IpVlan),
            "loopback" => Box::new(interfaces::loopback::Loopback),
            "macvlan" => Box::new(ChildLink::MacVlan),
            "portmap" => Box::new(chained::portmap::Portmap {
                sockets: Arc::clone(&self.sockets),
            }),
            "ptp" => Box::new(interfaces::ptp::PointToPoint {
                sockets: Arc::clone(&self.sockets),
            }),
            "sbr" => Box::new(chained::source_routing::SourceRouting),
            "static" => Box::new(ipam::static_ipam::StaticIpam),
            "tuning" => Box::new(chained::tuning::Tuning),
            "vlan" => Box::new(ChildLink::Vlan),
            "vrf" => Box::new(chained::vrf::Vrf),
            _ => return None,
        })
    }
}
