//! Limits of what a pod receives and sends.

mod settings;

use crioxide_cni::{Call, Interface, NetworkResult, Plugin, PluginError, error_code};
use crioxide_netlink::{
    Link, LinkKind, LinkRequests, LinkSpec, MacAddress, NetlinkError, Netns, Rate, RouteSocket,
};
use rustix::io::Errno;
use serde_json::Value;

use crate::chained::required_result;
use crate::configuration::{invalid, network_name, versions};
use crate::links;
use settings::{Settings, queue_name};

const NAME: &str = "bandwidth";

/// Token buckets on the host's end of the pod's link: what the pod receives is held back there, and
/// what it sends by a queueing device behind it.
#[derive(Debug)]
pub(crate) struct Bandwidth;

impl Plugin for Bandwidth {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let settings = Settings::read(call)?;
        let mut result = required_result(NAME, call)?;
        if settings.is_unlimited() {
            return Ok(result.to_value(call.version));
        }
        let mut socket = RouteSocket::open().map_err(netlink)?;
        let host = host_link(&mut socket, call, &result)?;
        if let Some(rate) = settings.ingress {
            socket.limit_rate(host.index, rate).map_err(netlink)?;
        }
        if let Some(rate) = settings.egress {
            let name = queue_name(network_name(NAME, call)?, call.container_id);
            let queue = limit_egress(&mut socket, &host, &name, rate)
                .inspect_err(|_| links::delete_or_warn(&name))?;
            result.interfaces.push(Interface {
                name: queue.name,
                mac: queue.mac.map(|mac| mac.to_string()).unwrap_or_default(),
                ..Interface::default()
            });
        }
        Ok(result.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        // The limit of what it receives goes with the pod's link.
        links::delete(&queue_name(network_name(NAME, call)?, call.container_id)).map_err(netlink)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let settings = Settings::read(call)?;
        let result = required_result(NAME, call)?;
        if settings.is_unlimited() {
            return Ok(());
        }
        let mut socket = RouteSocket::open().map_err(netlink)?;
        let host = host_link(&mut socket, call, &result)?;
        if let Some(rate) = settings.ingress {
            check_rate(&mut socket, &host, rate)?;
        }
        if let Some(rate) = settings.egress {
            let name = queue_name(network_name(NAME, call)?, call.container_id);
            let queue = socket.link_by_name(&name).map_err(netlink)?;
            let queue = queue.ok_or_else(|| differs(format!("link `{name}` is missing")))?;
            check_rate(&mut socket, &queue, rate)?;
        }
        Ok(())
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        Settings::read(call).map(drop)
    }

    /// Queueing devices of pods that are gone are told by their names, which hold a digest of network
    /// and pod: those of valid attachments are known, the network of the others is not.
    fn gc(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

/// The host's end of the pod's veth pair.
fn host_link(
    socket: &mut RouteSocket,
    call: &Call<'_>,
    result: &NetworkResult,
) -> Result<Link, PluginError> {
    let links = socket.links().map_err(netlink)?;
    let named = |link: &&Link| {
        link.kind == "veth"
            && result
                .interfaces
                .iter()
                .any(|described| described.sandbox.is_empty() && described.name == link.name)
    };
    let mut candidates = links.iter().filter(named);
    let first = candidates.next();
    let found = match (first, candidates.next(), call.netns) {
        (Some(only), None, _) => Some(only),
        // Several: the one whose other end is the pod's interface.
        (Some(_), Some(_), Some(path)) => {
            let peer = Netns::open(path)
                .map_err(|error| PluginError::caused(NAME, error_code::UNKNOWN_CONTAINER, &error))
                .and_then(|netns| {
                    RouteSocket::open_in(&netns)
                        .and_then(|mut pod| pod.link_by_name(call.ifname))
                        .map_err(netlink)
                })?
                .and_then(|link| link.parent);
            links
                .iter()
                .filter(named)
                .find(|link| Some(link.index) == peer)
        }
        _ => None,
    };
    found
        .cloned()
        .ok_or_else(|| invalid(NAME, "the previous result names no veth link of the host"))
}

/// What arrives from the pod is sent through a device of its own, as only sending can be held back.
fn limit_egress(
    socket: &mut RouteSocket,
    host: &Link,
    name: &str,
    rate: Rate,
) -> Result<Link, PluginError> {
    let mac = MacAddress::generate()
        .map_err(|error| PluginError::caused(NAME, error_code::FAILED, &error))?;
    let mut requests = LinkRequests::default();
    requests.create_link(&LinkSpec {
        name,
        kind: LinkKind::Ifb,
        netns: None,
        parent: None,
        mac: Some(mac),
        mtu: Some(host.mtu),
    });
    match requests.send(socket) {
        // Left by an ADD that was cut off.
        Err(error) if error.errno() == Some(Errno::EXIST) => {}
        sent => sent.map_err(netlink)?,
    }
    let queue = socket
        .link_by_name(name)
        .map_err(netlink)?
        .filter(|link| link.kind == "ifb")
        .ok_or_else(|| differs(format!("link `{name}` is no queueing device")))?;
    let mut requests = LinkRequests::default();
    requests.set_up(queue.index);
    requests.send(socket).map_err(netlink)?;
    socket
        .redirect_arrivals(host.index, queue.index)
        .map_err(netlink)?;
    socket.limit_rate(queue.index, rate).map_err(netlink)?;
    Ok(queue)
}

fn check_rate(socket: &mut RouteSocket, link: &Link, rate: Rate) -> Result<(), PluginError> {
    let queues = socket.queues(link.index).map_err(netlink)?;
    if queues
        .iter()
        .any(|queue| queue.bytes_per_second == Some(rate.bytes_per_second))
    {
        return Ok(());
    }
    Err(differs(format!(
        "link `{}` is not limited to {} bytes per second",
        link.name, rate.bytes_per_second
    )))
}

fn differs(message: String) -> PluginError {
    PluginError::reported(NAME, error_code::FAILED, message)
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn netlink(error: NetlinkError) -> PluginError {
    PluginError::caused(NAME, error_code::FAILED, &error)
}
