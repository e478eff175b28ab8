//! The CNI plugins a machine needs for a pod network, without any program to install: bridge,
//! host-local, static, loopback and portmap.
//!
//! They take the configuration and give the results of the reference plugins, and share their files
//! on disk, so that either can undo what the other did. Packet rules are nftables' and differ:
//! masquerading and host ports are elements of sets, not rules per pod.
//!
//! They run as direct calls ([`Builtin`]) or as programs ([`run_as_executable`]).

#![forbid(unsafe_code)]

mod bridge;
mod configuration;
mod executable;
mod host_local;
mod ipam;
mod loopback;
mod masquerade;
mod owner;
mod portmap;
mod removal;
mod static_ipam;
mod sysctl;

use crioxide_cni::{Plugin, PluginSource};

pub use executable::run_as_executable;
pub use removal::{RemoveNetworkError, remove_network};

/// Types of the plugins in this crate.
pub const PLUGIN_TYPES: [&str; 5] = ["bridge", "host-local", "loopback", "portmap", "static"];

/// The plugins of this crate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Builtin;

impl PluginSource for Builtin {
    fn plugin(&self, plugin_type: &str) -> Option<Box<dyn Plugin>> {
        Some(match plugin_type {
            "bridge" => Box::new(bridge::Bridge),
            "host-local" => Box::new(host_local::HostLocal),
            "loopback" => Box::new(loopback::Loopback),
            "portmap" => Box::new(portmap::Portmap),
            "static" => Box::new(static_ipam::StaticIpam),
            _ => return None,
        })
    }
}
