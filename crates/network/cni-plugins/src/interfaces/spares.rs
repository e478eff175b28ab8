//! Networks of pods to come: namespaces with a veth pair in them that no bridge knows yet.
//!
//! They are held by descriptors only. Whatever happens to the process, the kernel takes the namespaces away with it, and
//! with each its pair.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crioxide_netlink::{LinkRequests, MacAddress, NetlinkError, Netns, RouteSocket, VethSpec};

use crate::{Builtin, links};

/// A network namespace made ahead.
#[derive(Debug)]
pub struct Spare {
    netns: Netns,
    pair: Option<Pair>,
}

/// The two ends of a veth pair: one in the host's namespace, up; the other in the pod's, down.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) host: String,
    pub(crate) host_mac: MacAddress,
    /// Name of the pod's end.
    pub(crate) pod: String,
    pub(crate) pod_mac: MacAddress,
}

/// The pairs in namespaces that pods have got, by where the namespaces are pinned.
#[derive(Debug, Default)]
pub(crate) struct Pairs(Mutex<HashMap<PathBuf, Pair>>);

impl Spare {
    /// The namespace.
    ///
    /// # Errors
    /// No descriptor is to be had.
    pub fn netns(&self) -> io::Result<OwnedFd> {
        self.netns.as_fd().try_clone_to_owned()
    }

    /// Whether there is a veth pair in it.
    pub fn has_pair(&self) -> bool {
        self.pair.is_some()
    }
}

impl Builtin {
    /// Makes a namespace with its loopback interface up; and with a veth pair for the plugin `bridge`, whose pod's end has
    /// the name `interface`, if there is one.
    ///
    /// # Errors
    /// When the kernel refuses; nothing is left then.
    pub fn make_spare(&self, interface: Option<&str>) -> io::Result<Spare> {
        let (netns, lo) = Netns::create(|| {
            let mut requests = LinkRequests::default();
            requests.set_up(LOOPBACK);
            requests.send(&mut RouteSocket::open()?)
        })
        .map_err(io::Error::other)?;
        lo.map_err(io::Error::other)?;
        let pair = interface.map(Pair::named).transpose()?;
        if let Some(pair) = &pair {
            create(pair, &netns).map_err(io::Error::other)?;
        }
        Ok(Spare { netns, pair })
    }

    /// Says that a spare's namespace is pinned at `path` now, as a pod's.
    pub fn hand_out(&self, spare: Spare, path: &Path) {
        if let Some(pair) = spare.pair {
            self.pairs.all().insert(path.to_owned(), pair);
        }
    }

    /// Takes away the pair in the namespace pinned at `path`, if one is there still: to any other plugin than the one it was
    /// made for it is a foreign interface with the name that its own is to have.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn discard_pair(&self, path: &Path) -> io::Result<()> {
        match self.pairs.take(path) {
            Some(pair) => links::delete(&pair.host).map_err(io::Error::other),
            None => Ok(()),
        }
    }

    /// Says that the namespace pinned at `path` goes; that it never was a spare's is no error.
    pub fn forget_spare(&self, path: &Path) {
        self.pairs.all().remove(path);
    }
}

/// Index of `lo` in each new namespace.
const LOOPBACK: u32 = 1;

fn create(pair: &Pair, netns: &Netns) -> Result<(), NetlinkError> {
    let mut requests = LinkRequests::default();
    requests.create_veth(&pair.spec(netns));
    requests.send(&mut RouteSocket::open()?)
}

impl Pair {
    /// Random addresses, and a name for the host's end that is made of its own.
    pub(crate) fn named(interface: &str) -> io::Result<Self> {
        let host_mac = MacAddress::generate()?;
        let [_, _, a, b, c, d] = host_mac.bytes();
        Ok(Self {
            host: format!("veth{a:02x}{b:02x}{c:02x}{d:02x}"),
            host_mac,
            pod: interface.to_owned(),
            pod_mac: MacAddress::generate()?,
        })
    }

    pub(crate) fn spec<'a>(&'a self, netns: &'a Netns) -> VethSpec<'a> {
        VethSpec {
            name: &self.host,
            mac: self.host_mac,
            peer_name: &self.pod,
            peer_mac: self.pod_mac,
            peer_netns: netns,
            mtu: None,
            master: None,
        }
    }
}

impl Pairs {
    /// Takes the pair of the namespace pinned at `path`, if it has one.
    pub(crate) fn take(&self, path: &Path) -> Option<Pair> {
        self.all().remove(path)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<PathBuf, Pair>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
