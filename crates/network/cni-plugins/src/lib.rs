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
mod sockets;
mod static_ipam;
mod sysctl;

use std::sync::Arc;

use crioxide_cni::{Plugin, PluginSource};

use sockets::NftSockets;

pub use executable::run_as_executable;
pub use removal::{RemoveNetworkError, remove_network};

/// Types of the plugins in this crate.
pub const PLUGIN_TYPES: [&str; 5] = ["bridge", "host-local", "loopback", "portmap", "static"];

/// The plugins of this crate. Clones share their sockets.
#[derive(Debug, Clone, Default)]
pub struct Builtin {
    sockets: Arc<NftSockets>,
}

impl PluginSource for Builtin {
    fn plugin(&self, plugin_type: &str) -> Option<Box<dyn Plugin>> {
        Some(match plugin_type {
            "bridge" => Box::new(bridge::Bridge {
                sockets: Arc::clone(&self.sockets),
            }),
            "host-local" => Box::new(host_local::HostLocal),
            "loopback" => Box::new(loopback::Loopback),
            "portmap" => Box::new(portmap::Portmap {
                sockets: Arc::clone(&self.sockets),
            }),
            "static" => Box::new(static_ipam::StaticIpam),
            _ => return None,
        })
    }
}
