//! What containers leave on a host, listed so that two moments can be compared.

mod files;
mod kernel;
mod processes;

use std::collections::BTreeSet;

use crate::node::Place;
pub(crate) use kernel::{cgroups_of, mounts_below};
pub(crate) use processes::processes_of;

/// How far to look.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// Only what belongs to this node: for tests beside others.
    Node(&'a Place),
    /// Everything on the host, and this node's files: for a test that runs alone.
    WholeHost(&'a Place),
}

impl Scope<'_> {
    pub(crate) fn place(&self) -> &Place {
        match self {
            Self::Node(place) | Self::WholeHost(place) => place,
        }
    }
}

/// Mounts, links, namespaces, firewall rules, cgroups, processes and files at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSnapshot {
    things: BTreeSet<String>,
}

impl HostSnapshot {
    /// Looks around. What cannot be read (a missing `nft`, a process that just ended) is not there.
    #[must_use]
    pub fn take(scope: &Scope<'_>) -> Self {
        let mut things = BTreeSet::new();
        things.extend(kernel::mounts(scope).map(|line| format!("mount {line}")));
        things.extend(kernel::links(scope).map(|name| format!("link {name}")));
        things.extend(kernel::firewall(scope).map(|line| format!("nft {line}")));
        things.extend(kernel::cgroups(scope).map(|path| format!("cgroup {path}")));
        things.extend(processes::list(scope).map(|line| format!("process {line}")));
        things.extend(files::list(scope).map(|path| format!("file {path}")));
        things.extend(files::records(scope).map(|record| format!("record {record}")));
        Self { things }
    }

    /// What is here and was not in `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<String> {
        self.things.difference(&before.things).cloned().collect()
    }
}
