//! Pods on a bridge of the host.

mod attach;
mod check;
mod configuration;
mod device;
mod port;
mod vlan_gateway;

use std::sync::Arc;

use crioxide_cni::{Call, Fate, NetworkResult, Plugin, PluginError, error_code};
use crioxide_netlink::{LinkRequests, RouteSocket};
use serde_json::Value;

use crate::configuration::{invalid, previous_result, versions};
use crate::interfaces::spares::Pairs;
use crate::rules::PacketRules;
use crate::rules::masquerade::Masquerade;
use crate::rules::spoof_check::SpoofCheck;
use crate::{ipam, links};
use configuration::Settings;

const NAME: &str = "bridge";

/// Connects pods to a bridge by veth pairs.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) rules: Arc<PacketRules>,
    pub(crate) pairs: Arc<Pairs>,
}

impl Plugin for Bridge {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let settings = Settings::read(call)?;
        attach::attach(self, call, &settings).map(|result| result.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let settings = match Settings::read(call) {
            Ok(settings) => settings,
            Err(error) => return del_refused(call, &error),
        };
        // A result that cannot be read is as good as none: everything is then searched for.
        let previous = previous_result(NAME, call).ok().flatten();
        // First off the bridge, then the address is free for others.
        let detached = detach(call, &settings, previous.as_ref());
        // Nothing was made by a backend that there is not.
        let unmasked = match self.masquerade(call, &settings).unwrap_or(None) {
            Some(masquerade) => masquerade
                .remove(previous.as_ref())
                .map_err(|error| failed(&error)),
            None => Ok(()),
        };
        let unchecked = if settings.checks_spoofing {
            self.spoof_check(call).remove()
        } else {
            Ok(())
        };
        let released = ipam::del(ipam::plugin_type(call), call);
        let unchecked = unchecked.map_err(|error| failed(&error));
        detached.and(unmasked).and(unchecked).and(released)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let settings = Settings::read(call)?;
        ipam::check(ipam::plugin_type(call), call)?;
        check::check(self, call, &settings)
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
        let unmasked = match self.masquerade(call, &settings)? {
            Some(masquerade) => masquerade.collect().map_err(|error| failed(&error)),
            None => Ok(()),
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
        if let Some(masquerade) = self.masquerade(call, &settings)? {
            masquerade
                .restore(&previous.ips)
                .map_err(|error| failed(&error))?;
        }
        if settings.checks_spoofing {
            self.restore_spoof_check(call, &settings, &previous)?;
        }
        Ok(())
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

impl Bridge {
    fn spoof_check(&self, call: &Call<'_>) -> SpoofCheck<'_> {
        SpoofCheck::new(&self.rules.sockets, call.container_id, call.ifname)
    }

    fn restore_spoof_check(
        &self,
        call: &Call<'_>,
        settings: &Settings,
        result: &NetworkResult,
    ) -> Result<(), PluginError> {
        let check = self.spoof_check(call);
        if check.is_in_place().map_err(|error| failed(&error))? {
            return Ok(());
        }
        let mut links = result.interfaces.iter();
        let mac = links
            .find(|link| !link.sandbox.is_empty())
            .and_then(|link| link.mac.parse().ok());
        match (host_port(result, settings), mac) {
            (Some(port), Some(mac)) => check.set_up(port, mac).map_err(|error| failed(&error)),
            _ => Err(invalid(
                NAME,
                "the result does not say what frames the pod sends",
            )),
        }
    }

    /// The masquerading of the call's attachment, if there is to be any.
    fn masquerade<'a>(
        &'a self,
        call: &'a Call<'a>,
        settings: &Settings,
    ) -> Result<Option<Masquerade<'a>>, PluginError> {
        if !settings.ip_masq {
            return Ok(None);
        }
        let backend = settings.masquerade_backend.as_deref();
        Masquerade::new(NAME, &self.rules, backend, call).map(Some)
    }
}

/// Nothing is attached with a configuration that is refused. That must not keep the pod; nor what another implementation,
/// which knows more keys, may have made.
fn del_refused(call: &Call<'_>, refusal: &PluginError) -> Result<(), PluginError> {
    tracing::debug!(%refusal, "only the link and the addresses are looked for");
    let deleted = match call.netns {
        Some(path) => links::delete_in(path, call.ifname).map_err(|error| failed(&error)),
        None => Ok(()),
    };
    deleted.and(ipam::del(ipam::plugin_type(call), call))
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

fn failed(error: &dyn std::error::Error) -> PluginError {
    PluginError::caused(NAME, error_code::FAILED, error)
}
