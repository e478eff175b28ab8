//! Pods on a bridge of the host.

mod attach;
mod check;
mod configuration;
mod device;

use std::sync::Arc;

use crioxide_cni::{Call, Fate, NetworkResult, Plugin, PluginError, error_code};
use crioxide_netlink::{LinkRequests, RouteSocket};
use serde_json::Value;

use crate::configuration::{network_name, previous_result, versions};
use crate::interfaces::spares::Pairs;
use crate::rules::{masquerade, sockets::NftSockets};
use crate::{ipam, links};
use configuration::Settings;

const NAME: &str = "bridge";

/// Connects pods to a bridge by veth pairs.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) sockets: Arc<NftSockets>,
    pub(crate) pairs: Arc<Pairs>,
}

impl Plugin for Bridge {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let settings = Settings::read(call)?;
        attach::attach(self, call, &settings).map(|result| result.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let settings = Settings::read(call)?;
        // A result that cannot be read is as good as none: everything is then searched for.
        let previous = previous_result(NAME, call).ok().flatten();
        // First off the bridge, then the address is free for others.
        let detached = detach(call, &settings, previous.as_ref());
        let unmasked = if settings.ip_masq {
            unmask(&self.sockets, call, previous.as_ref())
        } else {
            Ok(())
        };
        let released = ipam::del(ipam::plugin_type(call), call);
        detached.and(unmasked).and(released)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let settings = Settings::read(call)?;
        ipam::check(ipam::plugin_type(call), call)?;
        check::check(call, &settings, &self.sockets)
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        Settings::read(call)?;
        match ipam::plugin_type(call) {
            Some(ipam) => call.plugins.find(ipam)?.plugin.status(call),
            None => Ok(()),
        }
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let settings = Settings::read(call)?;
        let unmasked = if settings.ip_masq {
            masquerade::collect(&self.sockets, network_name(NAME, call)?, call)
                .map_err(|error| failed(&error))
        } else {
            Ok(())
        };
        let released = match ipam::plugin_type(call) {
            Some(ipam) => call.plugins.find(ipam)?.plugin.gc(call),
            None => Ok(()),
        };
        unmasked.and(released)
    }

    fn restore(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let settings = Settings::read(call)?;
        let previous = previous_result(NAME, call)?.unwrap_or_default();
        if !settings.ip_masq {
            return Ok(());
        }
        masquerade::restore(
            &self.sockets,
            network_name(NAME, call)?,
            call,
            &previous.ips,
        )
        .map_err(|error| failed(&error))
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

/// Takes the pod off the bridge.
///
/// A namespace that is dropped anyway takes its links along, batched by the kernel; deleting a veth
/// here would wait 20 to 30 ms for a grace period. It only leaves the bridge, so that a namespace
/// that lingers no longer answers for the address.
fn detach(
    call: &Call<'_>,
    settings: &Settings,
    previous: Option<&NetworkResult>,
) -> Result<(), PluginError> {
    match (call.fate, call.netns) {
        (Fate::Discarded, _) | (_, None) => {
            let Some(port) = previous.and_then(|result| host_port(result, settings)) else {
                return Ok(());
            };
            let mut requests = LinkRequests::default();
            requests.detach(port);
            RouteSocket::open()
                .and_then(|mut socket| links::ignore_missing(requests.send(&mut socket)))
                .map_err(|error| failed(&error))
        }
        (Fate::Kept, Some(path)) => {
            links::delete_in(path, call.ifname).map_err(|error| failed(&error))
        }
    }
}

/// The host's end of the pod's veth pair.
fn host_port<'a>(result: &'a NetworkResult, settings: &Settings) -> Option<&'a str> {
    let host = result
        .interfaces
        .iter()
        .filter(|link| link.sandbox.is_empty());
    host.map(|link| link.name.as_str())
        .find(|name| *name != settings.bridge)
}

fn unmask(
    sockets: &NftSockets,
    call: &Call<'_>,
    previous: Option<&NetworkResult>,
) -> Result<(), PluginError> {
    masquerade::remove(sockets, network_name(NAME, call)?, call, previous)
        .map_err(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> PluginError {
    PluginError::caused(NAME, error_code::FAILED, error)
}
