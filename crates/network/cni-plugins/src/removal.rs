//! Taking a network apart: bridge and rules stay while pods come and go, and go when asked.

use crioxide_netlink::nft::{Family, NftSocket, Transaction};
use crioxide_netlink::{LinkRequests, NetlinkError, RouteSocket};
use rustix::io::Errno;

use crate::chained::portmap;
use crate::rules::masquerade;

/// A network could not be taken apart completely.
#[derive(Debug, thiserror::Error)]
#[error("remove network `{network}`: {}", failures.iter().map(describe).collect::<Vec<_>>().join("; "))]
pub struct RemoveNetworkError {
    /// The network.
    pub network: String,
    /// What each failing step said.
    pub failures: Vec<NetlinkError>,
}

/// Removes what the built-in plugins keep for `network` while no pod is on it: the bridge, its
/// masquerading rules, and the host port rules when no port is mapped. Of the calling thread's
/// network namespace. What is not there is no error.
///
/// # Errors
/// What could not be removed; the rest has been.
pub fn remove_network(network: &str, bridge: &str) -> Result<(), RemoveNetworkError> {
    let steps = [
        remove_bridge(bridge),
        remove_masquerading(network),
        remove_host_ports(),
    ];
    let failures: Vec<_> = steps.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() {
        Ok(())
    } else {
        Err(RemoveNetworkError {
            network: network.to_owned(),
            failures,
        })
    }
}

fn remove_bridge(bridge: &str) -> Result<(), NetlinkError> {
    let mut socket = RouteSocket::open()?;
    let found = socket.link_by_name(bridge)?;
    if found.is_none_or(|link| link.kind != "bridge") {
        return Ok(());
    }
    let mut requests = LinkRequests::default();
    requests.delete_link(bridge);
    match requests.send(&mut socket) {
        Err(error) if error.errno() == Some(Errno::NODEV) => Ok(()),
        sent => sent,
    }
}

fn remove_masquerading(network: &str) -> Result<(), NetlinkError> {
    let mut socket = NftSocket::open()?;
    for family in [Family::Ip, Family::Ip6] {
        let sets = socket.set_names(family, masquerade::TABLE)?;
        let (own, others): (Vec<_>, Vec<_>) = sets
            .into_iter()
            .partition(|name| masquerade::is_set_of(name, network));
        let mut transaction = Transaction::new();
        if others.is_empty() && !own.is_empty() {
            transaction.delete_table(family, masquerade::TABLE);
        } else {
            for name in &own {
                // The chain has the set's name.
                transaction
                    .flush_chain(family, masquerade::TABLE, name)
                    .delete_chain(family, masquerade::TABLE, name)
                    .delete_set(family, masquerade::TABLE, name);
            }
        }
        ignore_missing(transaction.commit(&mut socket))?;
    }
    Ok(())
}

fn remove_host_ports() -> Result<(), NetlinkError> {
    let mut socket = NftSocket::open()?;
    if !portmap::is_unused(&mut socket)? {
        return Ok(());
    }
    for family in [Family::Ip, Family::Ip6] {
        let mut transaction = Transaction::new();
        transaction.delete_table(family, portmap::TABLE);
        ignore_missing(transaction.commit(&mut socket))?;
    }
    Ok(())
}

fn ignore_missing(done: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match done {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
        done => done,
    }
}

fn describe(error: &NetlinkError) -> String {
    std::error::Error::source(error)
        .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}
