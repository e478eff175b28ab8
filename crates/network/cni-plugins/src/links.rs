//! Removing links, also those that are gone already.

use std::path::Path;

use crioxide_netlink::{LinkRequests, NetlinkError, Netns, RouteSocket};
use rustix::io::Errno;

/// Deletes a link of the namespace at `path`. One that is gone took its links along.
pub(crate) fn delete_in(path: &Path, name: &str) -> Result<(), NetlinkError> {
    let Ok(netns) = Netns::open(path) else {
        return Ok(());
    };
    let mut requests = LinkRequests::default();
    requests.delete_link(name);
    ignore_missing(requests.send(&mut RouteSocket::open_in(&netns)?))
}

/// Deletes a link of the calling thread's namespace.
pub(crate) fn delete(name: &str) -> Result<(), NetlinkError> {
    let mut requests = LinkRequests::default();
    requests.delete_link(name);
    ignore_missing(requests.send(&mut RouteSocket::open()?))
}

/// Deletes a link where nobody is left to tell of a failure.
pub(crate) fn delete_or_warn(name: &str) {
    if let Err(error) = delete(name) {
        tracing::warn!(%error, link = name, "link not removed");
    }
}

pub(crate) fn ignore_missing(done: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match done {
        Err(error) if error.errno() == Some(Errno::NODEV) => Ok(()),
        done => done,
    }
}
