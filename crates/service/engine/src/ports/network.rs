//! Pod networks.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use crioxide_cri_api::v1;

use super::{PortConnection, PortResult};

/// A pod as a network sees it.
#[derive(Debug, Clone)]
pub struct PodNetwork {
    /// Pod id.
    pub id: String,
    /// Pod name.
    pub name: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod uid.
    pub uid: String,
    /// Pinned network namespace; `None` if it is gone.
    pub netns: Option<PathBuf>,
    /// Host ports.
    pub port_mappings: Vec<v1::PortMapping>,
    /// Pod annotations, some of which networks read.
    pub annotations: Vec<(String, String)>,
    /// cgroup parent of the pod.
    pub cgroup_parent: String,
}

/// What joining the network gave.
#[derive(Debug, Clone, Default)]
pub struct NetworkResult {
    /// Addresses, the primary one first.
    pub ips: Vec<IpAddr>,
    /// The CNI result as JSON, for the pod's record.
    pub result: Option<String>,
}

/// The node's pod network.
#[async_trait]
pub trait Network: Send + Sync {
    /// `Err` says why pods cannot join now.
    async fn ready(&self) -> Result<(), String>;
    /// Joins a pod. On failure nothing of it is left.
    async fn add(&self, pod: &PodNetwork) -> PortResult<NetworkResult>;
    /// Gives back what `add` took; repeating it is no error.
    async fn remove(&self, pod: &PodNetwork) -> PortResult<()>;
    /// Connects to a port of the loopback interface of a network namespace.
    async fn connect(&self, netns: &Path, port: u16) -> PortResult<Box<dyn PortConnection>>;
    /// Gives back the attachments of pods that are not in `known`, left by a crash.
    async fn sweep(&self, known: &[String]) -> PortResult<()>;
}
