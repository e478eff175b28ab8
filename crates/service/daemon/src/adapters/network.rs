//! Pod networks by CNI.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use crioxide_cni::{Bandwidth, CachedAttachment, Cni, PortMapping, Protocol};
use crioxide_cri_api::v1;
use crioxide_engine::ports::{
    Network, NetworkResult, PodNetwork, PortConnection, PortError, PortResult,
};
use crioxide_netlink::Netns;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::{TcpSocket, TcpStream};

use crate::blocking;

/// The interface of a pod's network.
const INTERFACE: &str = "eth0";
/// How long a connection on a loopback interface may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// The default CNI network.
#[derive(Debug)]
pub(crate) struct CniNetwork {
    cni: Arc<Cni>,
}

impl CniNetwork {
    pub(crate) fn new(cni: Cni) -> Self {
        Self { cni: Arc::new(cni) }
    }
}

#[async_trait]
impl Network for CniNetwork {
    async fn ready(&self) -> Result<(), String> {
        let cni = self.cni.clone();
        let answer = blocking::run(move || {
            Ok::<_, PortError>(cni.status().map_err(|error| error.to_string()))
        })
        .await;
        answer.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn add(&self, pod: &PodNetwork) -> PortResult<NetworkResult> {
        let (cni, pod) = (self.cni.clone(), cni_pod(pod)?);
        let added = blocking::run(move || cni.add(&pod)).await?;
        Ok(NetworkResult {
            ips: added.ips,
            result: Some(added.result.to_string()),
        })
    }

    async fn remove(&self, pod: &PodNetwork) -> PortResult<()> {
        let (cni, pod) = (self.cni.clone(), cni_pod(pod)?);
        blocking::run(move || cni.del(&pod)).await
    }

    async fn connect(&self, netns: &Path, port: u16) -> PortResult<Box<dyn PortConnection>> {
        let netns = netns.to_owned();
        // A socket belongs for ever to the namespace it was made in; from here on any thread may use it.
        let sockets = blocking::run(move || {
            let made = Netns::open(&netns)?
                .run(|| [AddressFamily::INET, AddressFamily::INET6].map(tcp_socket))?;
            Ok::<_, PortError>(made)
        });
        let mut failures = Vec::new();
        let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        for (socket, address) in sockets.await?.into_iter().zip(addresses) {
            match connect(socket, SocketAddr::new(address, port)).await {
                Ok(stream) => return Ok(Box::new(stream)),
                Err(error) => failures.push(format!("{address}: {error}")),
            }
        }
        Err(failures.join(", ").into())
    }

    async fn sweep(&self, known: &[String]) -> PortResult<()> {
        let (cni, known) = (self.cni.clone(), known.to_vec());
        blocking::run(move || {
            // Attachments of others (podman, another runtime) share the cache: only those whose namespace is gone are
            // certainly nobody's any more.
            let keep = |entry: &CachedAttachment| {
                known.contains(&entry.attachment.container_id)
                    || entry
                        .attachment
                        .netns
                        .as_deref()
                        .is_some_and(|path| Netns::open(path).is_ok())
            };
            let report = cni.gc(&keep)?;
            for removed in &report.removed {
                tracing::info!(
                    "Successfully cleaned up network for pod {}",
                    removed.container_id
                );
            }
            for (kept, error) in &report.kept {
                tracing::warn!(
                    "Failed to clean up network of pod {}: {}",
                    kept.container_id,
                    crioxide_engine::chain(error)
                );
            }
            for (network, error) in &report.failures {
                tracing::warn!(
                    "Failed to collect garbage of network {network}: {}",
                    crioxide_engine::chain(error)
                );
            }
            Ok::<_, PortError>(())
        })
        .await
    }
}

fn tcp_socket(family: AddressFamily) -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

async fn connect(
    socket: std::io::Result<OwnedFd>,
    address: SocketAddr,
) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(socket?.into());
    let stream = tokio::time::timeout(CONNECT_PATIENCE, socket.connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn cni_pod(pod: &PodNetwork) -> PortResult<crioxide_cni::PodNetwork> {
    let annotations = pod.annotations.iter().cloned().collect();
    Ok(crioxide_cni::PodNetwork {
        id: pod.id.clone(),
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        uid: pod.uid.clone(),
        netns: pod.netns.clone().unwrap_or_default(),
        ifname: INTERFACE.to_owned(),
        port_mappings: pod
            .port_mappings
            .iter()
            .map(port_mapping)
            .collect::<Result<_, _>>()?,
        bandwidth: Bandwidth::from_annotations(&annotations)?,
        annotations,
        cgroup_path: pod.cgroup_parent.clone(),
        dns: None,
    })
}

fn port_mapping(port: &v1::PortMapping) -> PortResult<PortMapping> {
    let number = |value: i32| {
        u16::try_from(value).map_err(|_| format!("port {value} is not in the range 0-65535"))
    };
    Ok(PortMapping {
        host_port: number(port.host_port)?,
        container_port: number(port.container_port)?,
        protocol: match port.protocol() {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Sctp => Protocol::Sctp,
        },
        host_ip: port.host_ip.clone(),
    })
}
