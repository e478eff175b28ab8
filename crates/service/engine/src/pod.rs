//! A pod sandbox.
//!
//! ```text
//! (being made, invisible) --> Ready --> NotReady --> removed
//! ```

use std::{
    collections::BTreeSet,
    sync::{
        RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crioxide_names::{ContainerId, PodId};
use crioxide_node_records::SandboxAnnotations;
use tokio::sync::{Mutex, watch};

use crate::{
    ports::{Labels, NamespacePaths, PodNetwork, ProcessId, RecordDirs, SandboxPaths},
    user_namespace,
    view::PodEntry,
};
use crioxide_cri_api::v1;
use crioxide_runtime_spec::namespaces::UserNamespaceSource;

/// The pause process of a pod-level PID namespace.
#[derive(Debug)]
pub(crate) struct Pause {
    pub(crate) process: ProcessId,
    /// Turns true when it has ended.
    pub(crate) ended: watch::Sender<bool>,
}

/// A pod sandbox that exists. What is not behind a lock never changes.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) id: PodId,
    /// What its record says.
    pub(crate) info: SandboxAnnotations,
    pub(crate) dirs: RecordDirs,
    pub(crate) namespaces: NamespacePaths,
    pub(crate) paths: SandboxPaths,
    /// SELinux labels.
    pub(crate) labels: Labels,
    pub(crate) pause: Option<Pause>,
    /// OCI spec of the record, for verbose status and the containers' sysctls.
    pub(crate) spec: std::sync::Arc<str>,
    /// Held while the pod is stopped or removed, and shared with nothing else.
    pub(crate) gate: Mutex<()>,
    /// A stop was asked for: what ends from now on is meant to.
    stopping: AtomicBool,
    /// Not ready any more.
    stopped: AtomicBool,
    /// Nothing of it is left but its record.
    torn_down: AtomicBool,
    network_stopped: AtomicBool,
    /// Readers of events know that it is stopped.
    stop_announced: AtomicBool,
    containers: RwLock<BTreeSet<ContainerId>>,
    pub(crate) entry: PodEntry,
}

/// What makes a [`Pod`].
pub(crate) struct PodParts {
    pub(crate) id: PodId,
    pub(crate) info: SandboxAnnotations,
    pub(crate) dirs: RecordDirs,
    pub(crate) namespaces: NamespacePaths,
    pub(crate) paths: SandboxPaths,
    pub(crate) labels: Labels,
    pub(crate) pause: Option<Pause>,
    pub(crate) spec: std::sync::Arc<str>,
    pub(crate) stopped: bool,
    pub(crate) torn_down: bool,
    pub(crate) network_stopped: bool,
}

impl Pod {
    pub(crate) fn new(parts: PodParts) -> Self {
        Self {
            id: parts.id,
            info: parts.info,
            dirs: parts.dirs,
            namespaces: parts.namespaces,
            paths: parts.paths,
            labels: parts.labels,
            pause: parts.pause,
            spec: parts.spec,
            gate: Mutex::new(()),
            stopping: AtomicBool::default(),
            stopped: AtomicBool::new(parts.stopped),
            torn_down: AtomicBool::new(parts.torn_down),
            network_stopped: AtomicBool::new(parts.network_stopped),
            stop_announced: AtomicBool::new(parts.stopped),
            containers: RwLock::default(),
            entry: PodEntry::default(),
        }
    }

    pub(crate) fn state(&self) -> v1::PodSandboxState {
        if self.is_stopped() {
            v1::PodSandboxState::SandboxNotready
        } else {
            v1::PodSandboxState::SandboxReady
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn set_stopped(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether its stop has been told, which it is from now on.
    pub(crate) fn announce_stop(&self) -> bool {
        self.stop_announced.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_torn_down(&self) -> bool {
        self.torn_down.load(Ordering::Acquire)
    }

    pub(crate) fn set_torn_down(&self) {
        self.torn_down.store(true, Ordering::Release);
    }

    pub(crate) fn network_is_stopped(&self) -> bool {
        self.network_stopped.load(Ordering::Acquire)
    }

    pub(crate) fn set_network_stopped(&self) {
        self.network_stopped.store(true, Ordering::Release);
    }

    pub(crate) fn containers(&self) -> Vec<ContainerId> {
        self.containers
            .read()
            .expect("no holder of this lock panics")
            .iter()
            .cloned()
            .collect()
    }

    pub(crate) fn add_container(&self, id: ContainerId) {
        self.containers
            .write()
            .expect("no holder of this lock panics")
            .insert(id);
    }

    pub(crate) fn remove_container(&self, id: &ContainerId) {
        self.containers
            .write()
            .expect("no holder of this lock panics")
            .remove(id);
    }

    /// Its user namespace; `None` for the node's.
    pub(crate) fn user(&self) -> Option<UserNamespaceSource> {
        user_namespace::of_record(&self.info.namespace_options, self.namespaces.user.clone())
    }

    /// The pod as its network sees it.
    pub(crate) fn network(&self) -> PodNetwork {
        pod_network(&self.info, &self.namespaces)
    }
}

/// A pod as its network sees it, from its record.
pub(crate) fn pod_network(info: &SandboxAnnotations, namespaces: &NamespacePaths) -> PodNetwork {
    PodNetwork {
        id: info.id.clone(),
        name: info.kube_name.clone(),
        namespace: info.namespace.clone(),
        uid: info.metadata.uid.clone(),
        netns: namespaces.net.clone(),
        port_mappings: info.port_mappings.iter().map(cri_port).collect(),
        annotations: info
            .annotations
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        cgroup_parent: info.cgroup_parent.clone(),
    }
}

fn cri_port(port: &crioxide_node_records::annotations::values::PortMapping) -> v1::PortMapping {
    let protocol = match port.protocol.as_str() {
        "UDP" => v1::Protocol::Udp,
        "SCTP" => v1::Protocol::Sctp,
        _ => v1::Protocol::Tcp,
    };
    v1::PortMapping {
        protocol: protocol.into(),
        container_port: port.container_port,
        host_port: port.host_port,
        host_ip: port.host_ip.clone(),
    }
}
