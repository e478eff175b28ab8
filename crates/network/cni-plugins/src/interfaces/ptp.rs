//! Pods on a link of their own to the host, with routes instead of a bridge.

mod attach;

use std::sync::Arc;

use crioxide_cni::{Call, Dns, Fate, Plugin, PluginError, error_code};
use crioxide_netlink::RouteSocket;
use serde::Deserialize;
use serde_json::Value;

use crate::configuration::{open_netns, previous_result, read, versions};
use crate::rules::PacketRules;
use crate::rules::masquerade::Masquerade;
use crate::{ipam, links, pod_check};

const NAME: &str = "ptp";

/// Connects pods by routed veth pairs.
#[derive(Debug)]
pub(crate) struct PointToPoint {
    pub(crate) rules: Arc<PacketRules>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default)]
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    dns: Dns,
}

impl Plugin for PointToPoint {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let keys: Keys = read(NAME, call)?;
        let mut result = attach::attach(call, &keys, self.masquerade(call, &keys)?)?;
        if !keys.dns.is_empty() {
            result.dns = keys.dns;
        }
        Ok(result.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let keys: Keys = read(NAME, call)?;
        let previous = previous_result(NAME, call).ok().flatten();
        // First the link, then the address is free for others.
        let deleted = match (call.fate, call.netns, &previous) {
            (Fate::Kept, Some(path), _) => links::delete_in(path, call.ifname),
            // The host's end has the routes to the pod; it must not wait for the namespace.
            (_, _, Some(previous)) => previous
                .interfaces
                .iter()
                .find(|link| link.sandbox.is_empty())
                .map_or(Ok(()), |host| attach::take_down(&host.name)),
            _ => Ok(()),
        };
        // Nothing was made by a backend that there is not.
        let unmasked = match self.masquerade(call, &keys).unwrap_or(None) {
            Some(masquerade) => masquerade
                .remove(previous.as_ref())
                .map_err(|error| failed(&error)),
            None => Ok(()),
        };
        let released = ipam::del(ipam::plugin_type(call), call);
        let deleted = deleted.map_err(|error| failed(&error));
        deleted.and(unmasked).and(released)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let keys: Keys = read(NAME, call)?;
        ipam::check(ipam::plugin_type(call), call)?;
        let differs = |message: &str| PluginError::reported(NAME, error_code::FAILED, message);
        let result =
            previous_result(NAME, call)?.ok_or_else(|| differs("there is no previous result"))?;
        let netns = open_netns(NAME, call)?;
        let mut pod = RouteSocket::open_in(&netns).map_err(|error| failed(&error))?;
        pod_check::check(NAME, call, &result, &mut pod)?;
        if let Some(masquerade) = self.masquerade(call, &keys)?
            && !masquerade
                .is_in_place(&result.ips)
                .map_err(|error| failed(&error))?
        {
            return Err(differs("masquerading is not in place"));
        }
        Ok(())
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        ipam::status(call)
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let keys: Keys = read(NAME, call)?;
        let unmasked = match self.masquerade(call, &keys)? {
            Some(masquerade) => masquerade.collect().map_err(|error| failed(&error)),
            None => Ok(()),
        };
        unmasked.and(ipam::gc(call))
    }

    fn restore(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let keys: Keys = read(NAME, call)?;
        let previous = previous_result(NAME, call)?.unwrap_or_default();
        match self.masquerade(call, &keys)? {
            Some(masquerade) => masquerade
                .restore(&previous.ips)
                .map_err(|error| failed(&error)),
            None => Ok(()),
        }
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

impl PointToPoint {
    /// The masquerading of the call's attachment, if there is to be any.
    fn masquerade<'a>(
        &'a self,
        call: &'a Call<'a>,
        keys: &Keys,
    ) -> Result<Option<Masquerade<'a>>, PluginError> {
        if !keys.ip_masq {
            return Ok(None);
        }
        let backend = keys.ip_masq_backend.as_deref();
        Masquerade::new(NAME, &self.rules, backend, call).map(Some)
    }
}

fn failed(error: &dyn std::error::Error) -> PluginError {
    PluginError::caused(NAME, error_code::FAILED, error)
}
