//! The bridge's ports: the host's ends of pods' veth pairs.

use crioxide_cni::{Call, PluginError, error_code};
use crioxide_netlink::{LinkRequests, Netns, RouteSocket, VethSpec, VlanRole};
use rustix::io::Errno;

use super::configuration::{Port, Settings, Vlans};
use super::{NAME, failed};
use crate::interfaces::spares::Pair;
use crate::links;

/// Names are random; a taken one is simply replaced.
const NAME_TRIES: u32 = 4;
/// The VLAN of frames without a tag on a trunk that names none.
const DEFAULT_NATIVE: u16 = 1;

/// Connects a pair that was made ahead, as [`create_pair`] makes a new one.
pub(super) fn use_pair(
    socket: &mut RouteSocket,
    pair: &Pair,
    settings: &Settings,
    bridge: u32,
) -> Result<(), PluginError> {
    let mut requests = LinkRequests::default();
    requests.attach(&pair.host, bridge, settings.mtu);
    settings.port.push(&mut requests, &pair.host);
    requests.send(socket).map_err(|error| failed(&error))?;
    settings.port.vlans.set(socket, &pair.host)
}

pub(super) fn create_pair(
    socket: &mut RouteSocket,
    call: &Call<'_>,
    settings: &Settings,
    netns: &Netns,
    bridge: u32,
) -> Result<Pair, PluginError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut pair = Pair::named(call.ifname).map_err(|error| failed(&error))?;
        pair.pod_mac = settings.mac.unwrap_or(pair.pod_mac);
        let mut requests = LinkRequests::default();
        requests.create_veth(&VethSpec {
            mtu: settings.mtu,
            master: Some(bridge),
            ..pair.spec(netns)
        });
        settings.port.push(&mut requests, &pair.host);
        match requests.send(socket) {
            Ok(()) => {
                let set = settings.port.vlans.set(socket, &pair.host);
                set.inspect_err(|_| links::delete_or_warn(&pair.host))?;
                return Ok(pair);
            }
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                let mut pod = RouteSocket::open_in(netns).map_err(|error| failed(&error))?;
                if pod
                    .link_by_name(call.ifname)
                    .map_err(|error| failed(&error))?
                    .is_some()
                {
                    let message = format!("the pod has an interface `{}` already", call.ifname);
                    return Err(PluginError::reported(NAME, error_code::FAILED, message));
                }
                if tries == NAME_TRIES {
                    return Err(failed(&error));
                }
            }
            Err(error) => {
                // The pair may be there without its modes.
                links::delete_or_warn(&pair.host);
                return Err(failed(&error));
            }
        }
    }
}

impl Port {
    fn push(&self, requests: &mut LinkRequests, name: &str) {
        if self.hairpin {
            requests.set_hairpin(name);
        }
        if self.isolated {
            requests.isolate(name);
        }
    }
}

impl Vlans {
    /// Ids that a port has to be in.
    pub(super) fn ids(&self) -> Vec<u16> {
        let native = self.native_id();
        native.into_iter().chain(self.tagged.clone()).collect()
    }

    fn native_id(&self) -> Option<u16> {
        match self.native {
            None if !self.tagged.is_empty() => Some(DEFAULT_NATIVE),
            native => native,
        }
    }

    /// Puts a port into these VLANs, and out of those that the bridge gave it.
    pub(super) fn set(&self, socket: &mut RouteSocket, port: &str) -> Result<(), PluginError> {
        if self.is_empty() {
            return Ok(());
        }
        let link = socket.link_by_name(port).map_err(|error| failed(&error))?;
        let index = link
            .ok_or_else(|| {
                let message = format!("link `{port}` vanished");
                PluginError::reported(NAME, error_code::FAILED, message)
            })?
            .index;
        let mut requests = LinkRequests::default();
        if !self.keeps_default {
            for id in socket.vlans(index).map_err(|error| failed(&error))? {
                requests.delete_vlan(index, id);
            }
        }
        for id in &self.tagged {
            requests.add_vlan(index, *id, VlanRole::Tagged);
        }
        // Last: an id may be both.
        if let Some(id) = self.native_id() {
            requests.add_vlan(index, id, VlanRole::Native);
        }
        requests.send(socket).map_err(|error| failed(&error))
    }
}
