//! The host's own port of a VLAN: a veth pair between the bridge and the host itself, which has the gateways' addresses.

use crioxide_cni::PluginError;
use crioxide_netlink::{Link, LinkRequests, Netns, RouteSocket, VethSpec};
use rustix::io::Errno;

use super::configuration::{Settings, Vlans, gateway_name};
use super::failed;
use crate::configuration::invalid;
use crate::interfaces::spares::Pair;
use crate::links;

/// Makes sure that the port of VLAN `id` is there and up.
pub(super) fn ensure(
    socket: &mut RouteSocket,
    settings: &Settings,
    bridge: &Link,
    id: u16,
) -> Result<Link, PluginError> {
    let name = gateway_name(&bridge.name, id);
    let mut found = socket.link_by_name(&name).map_err(|error| failed(&error))?;
    if found.is_none() {
        create(socket, settings, bridge, id, &name)?;
        found = socket.link_by_name(&name).map_err(|error| failed(&error))?;
    }
    let link = found.ok_or_else(|| {
        let message = format!("link `{name}` vanished while it was set up");
        invalid(super::NAME, message)
    })?;
    if !link.up {
        let mut requests = LinkRequests::default();
        requests.set_up(link.index);
        requests.send(socket).map_err(|error| failed(&error))?;
    }
    Ok(link)
}

fn create(
    socket: &mut RouteSocket,
    settings: &Settings,
    bridge: &Link,
    id: u16,
    name: &str,
) -> Result<(), PluginError> {
    let host = Netns::current().map_err(|error| failed(&error))?;
    let pair = Pair::named(name).map_err(|error| failed(&error))?;
    let mut requests = LinkRequests::default();
    requests.create_veth(&VethSpec {
        mtu: Some(bridge.mtu),
        master: Some(bridge.index),
        ..pair.spec(&host)
    });
    match requests.send(socket) {
        // Another pod's attachment was first.
        Err(error) if error.errno() == Some(Errno::EXIST) => return Ok(()),
        made => made.map_err(|error| failed(&error))?,
    }
    let vlans = Vlans {
        native: Some(id),
        tagged: Vec::new(),
        keeps_default: settings.port.vlans.keeps_default,
    };
    let set = vlans.set(socket, &pair.host);
    set.inspect_err(|_| links::delete_or_warn(&pair.host))
}
