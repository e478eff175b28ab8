//! Pod networks by CNI.

mod firewall;
mod readiness;
mod retries;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use crioxide_cni::{
    Attachment, Bandwidth, CachedAttachment, Cni, CniError, PluginError, PortMapping, Protocol,
};
use crioxide_cni_plugins::Builtin;
use crioxide_cri_api::v1;
use crioxide_engine::ports::{
    Network, NetworkResult, PodNetwork, PortConnection, PortError, PortResult,
};
use crioxide_netlink::Netns;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::net::{TcpSocket, TcpStream};

use crate::blocking;
use readiness::Readiness;
use retries::Retries;

/// The interface of a pod's network.
pub(crate) const INTERFACE: &str = "eth0";
/// The plugin that takes veth pairs which were made ahead.
pub(crate) const PAIRED: &str = "bridge";
/// How long a connection on a loopback interface may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// How long others may keep iptables from us.
const RULES_PATIENCE: Duration = Duration::from_secs(30);

/// The default CNI network.
#[derive(Debug)]
pub(crate) struct CniNetwork {
    cni: Arc<Cni>,
    plugins: Builtin,
    readiness: Readiness,
    retries: Retries,
    polls: firewall::Polls,
    /// The plugins' own GC has not run since the daemon's start: the network was not ready for it.
    garbage_waits: Arc<AtomicBool>,
}

impl CniNetwork {
    /// Must be called inside the tokio runtime.
    pub(crate) fn new(cni: Arc<Cni>, plugins: Builtin, grace: Duration) -> Self {
        tokio::spawn(firewall::watch(cni.clone()));
        let asked = plugins.clone();
        tokio::spawn(blocking::run(move || {
            asked.find_backend();
            Ok::<_, PortError>(())
        }));
        Self {
            polls: firewall::Polls::new(cni.clone(), plugins.clone()),
            readiness: Readiness::new(grace),
            retries: Retries::new(cni.clone()),
            garbage_waits: Arc::default(),
            plugins,
            cni,
        }
    }

    /// Runs the plugins' own GC, once, now that there is a network.
    fn collect_garbage(&self) {
        if !self.garbage_waits.swap(false, Ordering::Relaxed) {
            return;
        }
        let (cni, waits) = (self.cni.clone(), self.garbage_waits.clone());
        tokio::spawn(async move {
            let report = blocking::run(move || Ok::<_, PortError>(cni.gc(&|_| true)?)).await;
            match report {
                Ok(report) if report.not_ready => waits.store(true, Ordering::Relaxed),
                Ok(report) => report.failures.iter().for_each(log_gc_failure),
                Err(error) => tracing::warn!(
                    "Failed to collect garbage of the network: {}",
                    crioxide_engine::chain(error.as_ref())
                ),
            }
        });
    }
}

/// What CRI-O counts of a pod joining its network.
fn count_setup(took: Duration, succeeded: bool) {
    let metrics = crioxide_metrics::get();
    for operation in ["network_setup_pod", "network_setup_overall"] {
        metrics.operations.add_one([operation]);
        metrics.operation_latency.observe(operation, took);
        if !succeeded {
            metrics.operation_errors.add_one([operation]);
        }
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
        let answer = answer.unwrap_or_else(|error| Err(error.to_string()));
        if answer.is_ok() {
            self.collect_garbage();
        }
        self.readiness.judge(answer, Instant::now())
    }

    async fn add(&self, pod: &PodNetwork) -> PortResult<NetworkResult> {
        let (cni, described) = (self.cni.clone(), described(pod)?);
        let begin = Instant::now();
        let plugins = self.plugins.clone();
        let added = blocking::run(move || {
            // The configuration may be another one than when the namespace was chosen.
            if !cni.begins_with_builtin(PAIRED) {
                plugins.discard_pair(&described.netns)?;
            }
            Ok::<_, PortError>(cni.add(&described))
        })
        .await?;
        count_setup(begin.elapsed(), added.is_ok());
        self.polls.begin_if_needed();
        match added {
            Ok(added) => Ok(NetworkResult {
                ips: added.ips,
                result: Some(added.result.to_string()),
            }),
            Err(error) => {
                if leaves_something(&error) {
                    self.retries.begin(&pod.id, INTERFACE);
                }
                Err(error.into())
            }
        }
    }

    async fn remove(&self, pod: &PodNetwork) -> PortResult<()> {
        let (cni, described) = (self.cni.clone(), described_for_removal(pod));
        let plugins = self.plugins.clone();
        let removed = blocking::run(move || {
            if !described.port_mappings.is_empty() {
                release_host_ports_of_cri_o(&plugins, &described);
            }
            cni.del(&described)
        })
        .await;
        if removed.is_err() {
            self.retries.begin(&pod.id, INTERFACE);
        }
        removed
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
        let report = blocking::run(move || {
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
            Ok::<_, PortError>(cni.gc(&keep)?)
        })
        .await?;
        for removed in &report.removed {
            tracing::info!(
                "Successfully cleaned up network for pod {}",
                removed.container_id
            );
        }
        for (kept, error) in &report.kept {
            log_kept(kept, error);
            self.retries.begin(&kept.container_id, &kept.ifname);
        }
        report.failures.iter().for_each(log_gc_failure);
        self.garbage_waits
            .store(report.not_ready, Ordering::Relaxed);
        // Pods keep their rules over a restart; that they are all there need not hold up the start.
        self.polls.restore();
        Ok(())
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

/// Whether a failed ADD may have left an attachment on record.
fn leaves_something(error: &CniError) -> bool {
    matches!(
        error,
        CniError::Add { undo: Some(_), .. } | CniError::Del { .. } | CniError::Cache(_)
    )
}

fn log_kept(kept: &Attachment, error: &CniError) {
    tracing::warn!(
        "Failed to clean up network of pod {}: {}",
        kept.container_id,
        crioxide_engine::chain(error)
    );
}

fn log_gc_failure((network, error): &(String, PluginError)) {
    tracing::warn!(
        "Failed to collect garbage of network {network}: {}",
        crioxide_engine::chain(error)
    );
}

/// The pod as CNI is told of it.
fn described(pod: &PodNetwork) -> PortResult<crioxide_cni::PodNetwork> {
    let ports = mapped(pod).map(port_mapping);
    Ok(crioxide_cni::PodNetwork {
        port_mappings: ports.collect::<Result<_, _>>()?,
        bandwidth: Bandwidth::from_annotations(&annotations(pod))?,
        ..plain(pod)
    })
}

/// No reason to keep the rest of a pod's network, as in CRI-O.
fn release_host_ports_of_cri_o(plugins: &Builtin, pod: &crioxide_cni::PodNetwork) {
    let deadline = Instant::now() + RULES_PATIENCE;
    if let Err(error) = plugins.release_host_ports_of_cri_o(&pod.id, &pod.port_mappings, deadline) {
        let id = &pod.id;
        tracing::warn!(
            "Failed to remove what CRI-O mapped host ports of pod {id} with: {}",
            crioxide_engine::chain(&error)
        );
    }
}

/// As [`described`], without what is wrong: it cannot have been set up, and must not keep the rest.
fn described_for_removal(pod: &PodNetwork) -> crioxide_cni::PodNetwork {
    crioxide_cni::PodNetwork {
        port_mappings: mapped(pod)
            .filter_map(|port| port_mapping(port).ok())
            .collect(),
        bandwidth: Bandwidth::from_annotations(&annotations(pod))
            .ok()
            .flatten(),
        ..plain(pod)
    }
}

fn plain(pod: &PodNetwork) -> crioxide_cni::PodNetwork {
    crioxide_cni::PodNetwork {
        id: pod.id.clone(),
        name: pod.name.clone(),
        namespace: pod.namespace.clone(),
        uid: pod.uid.clone(),
        netns: pod.netns.clone().unwrap_or_default(),
        ifname: INTERFACE.to_owned(),
        annotations: annotations(pod),
        cgroup_path: pod.cgroup_parent.clone(),
        ..crioxide_cni::PodNetwork::default()
    }
}

fn annotations(pod: &PodNetwork) -> std::collections::BTreeMap<String, String> {
    pod.annotations.iter().cloned().collect()
}

/// A kubelet names every port of a container, also those that no port of the host leads to.
fn mapped(pod: &PodNetwork) -> impl Iterator<Item = &v1::PortMapping> {
    pod.port_mappings.iter().filter(|port| port.host_port != 0)
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
