//! Interfaces of many pods, by one thread.

use std::{path::PathBuf, sync::Arc};

use crioxide_engine::ports::{InterfaceStats, NetworkStats, Traffic};
use crioxide_netlink::counters;

use super::meter::{Meter, now};

/// Reads the interfaces of the namespaces and leaves them in their meters. Blocks.
pub(crate) fn read(wanted: &[(Arc<Meter>, PathBuf)]) {
    let paths: Vec<_> = wanted.iter().map(|(_, path)| path).collect();
    let read = match counters::of_namespaces(&paths) {
        Ok(read) => read,
        Err(error) => return tracing::warn!("Failed to read network counters: {error}"),
    };
    let timestamp = now();
    for ((meter, path), links) in wanted.iter().zip(read) {
        match links {
            Ok(links) => meter.set_network(NetworkStats {
                timestamp,
                interfaces: links
                    .into_iter()
                    .filter(|link| !link.loopback)
                    .map(interface)
                    .collect(),
            }),
            // The pod is being stopped.
            Err(error) => tracing::debug!(
                "No network counters of {}: {}",
                path.display(),
                crioxide_engine::chain(&error)
            ),
        }
    }
}

fn interface(link: counters::LinkCounters) -> InterfaceStats {
    let traffic = |traffic: counters::Traffic| Traffic {
        bytes: traffic.bytes,
        packets: traffic.packets,
        errors: traffic.errors,
        dropped: traffic.dropped,
    };
    InterfaceStats {
        name: link.name,
        received: traffic(link.received),
        sent: traffic(link.sent),
    }
}
