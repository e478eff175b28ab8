//! The CNI plugins a machine needs for a pod network, without any program to install: those of the
//! reference set ([`PLUGIN_TYPES`]), and flannel's.
//!
//! They take the configuration and give the results of the reference plugins, and share their files
//! on disk, so that either can undo what the other did. Packet rules are iptables' as the reference plugins' are,
//! where a configuration asks for them or the host has nothing else, and otherwise nftables' and differ: masquerading and
//! host ports are elements of sets, not rules per pod.
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

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crioxide_cni::{Plugin, PluginSource, PortMapping};

use interfaces::child_link::ChildLink;
use interfaces::spares::Pairs;
use rules::PacketRules;

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
    rules: Arc<PacketRules>,
    pairs: Arc<Pairs>,
}

/// The chain whose end says that somebody reloaded a firewall that iptables make.
pub const CANARY_CHAIN: &str = rules::iptables::CANARY;

impl Builtin {
    /// As on a host that has no nftables: packet rules are changed by the `iptables` programs in `directory`, where no
    /// configuration says otherwise.
    pub fn by_iptables(directory: PathBuf) -> Self {
        Self {
            rules: Arc::new(PacketRules::by_iptables(directory)),
            pairs: Arc::default(),
        }
    }

    /// Finds out whether packet rules are nftables' or iptables' on this host, once, and logs it.
    pub fn find_backend(&self) {
        self.rules.preferred();
    }

    /// Whether there are packet rules whose end the kernel does not tell: those of iptables' legacy variant.
    pub fn has_unwatched_rules(&self) -> bool {
        self.rules.programs.is_watching()
    }

    /// Whether such rules are gone, as [`CANARY_CHAIN`] is.
    ///
    /// # Errors
    /// When iptables cannot be asked.
    pub fn lost_unwatched_rules(&self, deadline: Instant) -> io::Result<bool> {
        let lost = self.rules.programs.lost_canary(deadline);
        lost.map_err(io::Error::other)
    }

    /// Takes back the host ports that CRI-O, before a pod was handed over to us, mapped to it beside the network's
    /// plugins: its elements in the nftables table `crio-hostports` and its iptables chains of the calling thread's network
    /// namespace. None are no error.
    ///
    /// # Errors
    /// When the kernel refuses, or iptables do.
    pub fn release_host_ports_of_cri_o(
        &self,
        pod: &str,
        ports: &[PortMapping],
        deadline: Instant,
    ) -> io::Result<()> {
        let by_nftables = self
            .rules
            .sockets
            .get()
            .and_then(|mut socket| chained::portmap::of_cri_o::release(&mut socket, pod));
        let by_iptables =
            chained::portmap::release_chains_of_cri_o(&self.rules, pod, ports, deadline);
        // Where nftables are missing nothing is in them.
        if self.rules.preferred() == rules::Backend::Nftables {
            by_nftables.map_err(io::Error::other)?;
        }
        by_iptables.map_err(io::Error::other)
    }
}

impl PluginSource for Builtin {
    fn plugin(&self, plugin_type: &str) -> Option<Box<dyn Plugin>> {
        Some(match plugin_type {
            "bandwidth" => Box::new(chained::bandwidth::Bandwidth),
            "bridge" => Box::new(interfaces::bridge::Bridge {
                rules: Arc::clone(&self.rules),
                pairs: Arc::clone(&self.pairs),
            }),
            "dummy" => Box::new(ChildLink::Dummy),
            "firewall" => Box::new(chained::firewall::Firewall {
                rules: Arc::clone(&self.rules),
            }),
            "flannel" => Box::new(flannel::Flannel),
            "host-device" => Box::new(interfaces::host_device::HostDevice),
            "host-local" => Box::new(ipam::host_local::HostLocal),
            "ipvlan" => Box::new(ChildLink::IpVlan),
            "loopback" => Box::new(interfaces::loopback::Loopback),
            "macvlan" => Box::new(ChildLink::MacVlan),
            "portmap" => Box::new(chained::portmap::Portmap {
                rules: Arc::clone(&self.rules),
            }),
            "ptp" => Box::new(interfaces::ptp::PointToPoint {
                rules: Arc::clone(&self.rules),
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
