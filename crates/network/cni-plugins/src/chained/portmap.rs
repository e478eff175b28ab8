//! Ports of the host that lead to pods.
//!
//! A mapping is one element of a map; the rules that look in it are made once. Only packets to the
//! host's own addresses are looked at, so that a mapping cannot grab traffic that is passing through.

mod apply;
mod flows;
mod mapping;
pub(crate) mod of_cri_o;
mod rules;

use std::sync::Arc;

use crioxide_cni::{Call, NetworkResult, Plugin, PluginError, error_code};
use crioxide_netlink::nft::NftSocket;
use crioxide_netlink::{NetlinkError, RouteSocket};
use rustix::io::Errno;
use serde_json::Value;

use crate::configuration::{invalid, network_name, previous_result, versions};
use crate::rules::owner;
use crate::rules::sockets::NftSockets;
use crate::sysctl;
use apply::Claim;
use mapping::{Configuration, Entry, Plan};

const NAME: &str = "portmap";
pub(crate) use rules::TABLE;

/// Maps host ports.
#[derive(Debug)]
pub(crate) struct Portmap {
    pub(crate) sockets: Arc<NftSockets>,
}

impl Plugin for Portmap {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let configuration = Configuration::read(call)?;
        let previous = previous_result(NAME, call)?.ok_or_else(|| {
            invalid(
                NAME,
                "there is no previous result: it must come behind a plugin that gives addresses",
            )
        })?;
        let plan = Plan::new(&configuration, &previous)?;
        if !plan.entries.is_empty() {
            let comment = owner::comment(network_name(NAME, call)?, call);
            let mut socket = self.sockets.get().map_err(|error| failed(&error))?;
            apply::claim(&mut socket, &plan, &comment, Claim::New)?;
            let ready = open_localhost(&plan).and_then(|()| flows::forget(&plan.entries));
            if let Err(error) = ready {
                undo(&mut socket, &comment, &plan.entries);
                return Err(error);
            }
        }
        Ok(previous.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let configuration = Configuration::read(call)?;
        let comment = owner::comment(network_name(NAME, call)?, call);
        let previous = previous_result(NAME, call).ok().flatten();
        let plan = previous
            .as_ref()
            .and_then(|previous| Plan::new(&configuration, previous).ok());
        let mut socket = self.sockets.get().map_err(|error| failed(&error))?;
        let done = match &plan {
            // Told that there are none.
            Some(plan) if plan.entries.is_empty() && call.config.contains_key("runtimeConfig") => {
                Ok(())
            }
            Some(plan) if !plan.entries.is_empty() => {
                apply::release(&mut socket, &plan.entries, &comment)
            }
            _ => apply::release_where(&mut socket, TABLE, |owner| owner == comment),
        };
        done.map_err(|error| failed(&error))?;
        plan.map_or(Ok(()), |plan| flows::forget(&plan.entries))
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let configuration = Configuration::read(call)?;
        let previous = previous_result(NAME, call)?.unwrap_or_else(NetworkResult::default);
        let plan = Plan::new(&configuration, &previous)?;
        let comment = owner::comment(network_name(NAME, call)?, call);
        let mut socket = self.sockets.get().map_err(|error| failed(&error))?;
        match apply::first_missing(&mut socket, &plan.entries, &comment)
            .map_err(|error| failed(&error))?
        {
            None => Ok(()),
            Some(missing) => Err(PluginError::reported(
                NAME,
                error_code::FAILED,
                format!("{} is not mapped to the pod", missing.label),
            )),
        }
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        Configuration::read(call)?;
        self.sockets
            .get()
            .map(drop)
            .map_err(|error| PluginError::caused(NAME, error_code::NOT_AVAILABLE, &error))
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let network = network_name(NAME, call)?;
        let valid = owner::valid_comments(network, call);
        let mut socket = self.sockets.get().map_err(|error| failed(&error))?;
        apply::release_where(&mut socket, TABLE, |comment| {
            owner::is_of_network(comment, network) && !valid.contains(comment)
        })
        .map_err(|error| failed(&error))
    }

    fn restore(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let configuration = Configuration::read(call)?;
        let Some(previous) = previous_result(NAME, call)? else {
            return Ok(());
        };
        let plan = Plan::new(&configuration, &previous)?;
        if plan.entries.is_empty() {
            return Ok(());
        }
        let comment = owner::comment(network_name(NAME, call)?, call);
        let mut socket = self.sockets.get().map_err(|error| failed(&error))?;
        if apply::is_complete(&mut socket, &plan, &comment).map_err(|error| failed(&error))? {
            return Ok(());
        }
        apply::claim(&mut socket, &plan, &comment, Claim::Again)?;
        open_localhost(&plan)?;
        flows::forget(&plan.entries)
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

/// Lets processes of the host reach the pod by 127.0.0.1: such packets leave through the link to
/// the pod, which the kernel refuses by default. Outside packets to 127.0.0.0/8 are dropped by a
/// rule of ours, as this would let them in.
fn open_localhost(plan: &Plan) -> Result<(), PluginError> {
    let Some(address) = plan.masqueraded_v4 else {
        return Ok(());
    };
    let mut socket = RouteSocket::open().map_err(|error| failed(&error))?;
    let route = match socket.route_to(address) {
        // The host itself does not reach the pod; others may.
        Err(error) if matches!(error.errno(), Some(Errno::NETUNREACH | Errno::HOSTUNREACH)) => {
            return Ok(());
        }
        route => route.map_err(|error| failed(&error))?,
    };
    let links = socket.links().map_err(|error| failed(&error))?;
    let Some(link) = links
        .iter()
        .find(|link| Some(link.index) == route.link && link.name != "lo")
    else {
        return Ok(());
    };
    sysctl::set(&format!("ipv4/conf/{}/route_localnet", link.name), "1")
        .map_err(|error| failed(&error))
}

fn undo(socket: &mut NftSocket, comment: &str, entries: &[Entry]) {
    if let Err(error) = apply::release(socket, entries, comment) {
        tracing::warn!(%error, "host ports not given back");
    }
}

fn failed(error: &dyn std::error::Error) -> PluginError {
    PluginError::caused(NAME, error_code::FAILED, error)
}

/// Whether no host port is mapped at all.
pub(crate) fn is_unused(socket: &mut NftSocket) -> Result<bool, NetlinkError> {
    apply::is_empty(socket)
}
