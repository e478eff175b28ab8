//! Address management, delegated to the plugin that the `ipam` section names.

pub(crate) mod host_local;
pub(crate) mod static_ipam;

use crioxide_cni::{Call, NetworkResult, PluginError, error_code};
use serde_json::Value;

use crate::configuration::invalid;

/// Type of the address management plugin; none when there is no `ipam` section.
pub(crate) fn plugin_type<'a>(call: &'a Call<'_>) -> Option<&'a str> {
    call.config
        .get("ipam")?
        .get("type")?
        .as_str()
        .filter(|name| !name.is_empty())
}

/// Asks for addresses.
pub(crate) fn add(plugin: &str, ipam: &str, call: &Call<'_>) -> Result<NetworkResult, PluginError> {
    let value: Value = call.plugins.find(ipam)?.plugin.add(call)?;
    let result = NetworkResult::parse(&value, call.version)
        .map_err(|error| PluginError::caused(plugin, error_code::DECODING_FAILURE, &error))?;
    if result.ips.is_empty() {
        // What it may have reserved is not known; it is asked to give it back.
        let returned = del(Some(ipam), call).err();
        tracing::debug!(?returned, "address management gave no address");
        return Err(invalid(
            plugin,
            format!("address management plugin `{ipam}` gave no address"),
        ));
    }
    Ok(result)
}

/// Addresses that are given back on drop, unless [`Self::keep`] is called.
pub(crate) struct Reserved<'a, 'b> {
    call: &'a Call<'b>,
    ipam: Option<String>,
}

/// Asks for addresses, if there is an `ipam` section.
pub(crate) fn reserve<'a, 'b>(
    plugin: &str,
    call: &'a Call<'b>,
) -> Result<(NetworkResult, Reserved<'a, 'b>), PluginError> {
    let ipam = plugin_type(call).map(str::to_owned);
    let result = match &ipam {
        Some(ipam) => add(plugin, ipam, call)?,
        None => NetworkResult::default(),
    };
    Ok((result, Reserved { call, ipam }))
}

impl Reserved<'_, '_> {
    pub(crate) fn keep(mut self) {
        self.ipam = None;
    }
}

impl Drop for Reserved<'_, '_> {
    fn drop(&mut self) {
        if let Some(ipam) = self.ipam.take()
            && let Err(error) = del(Some(&ipam), self.call)
        {
            tracing::warn!(%error, "addresses not given back");
        }
    }
}

/// Asks whether addresses could be given.
pub(crate) fn status(call: &Call<'_>) -> Result<(), PluginError> {
    match plugin_type(call) {
        Some(ipam) => call.plugins.find(ipam)?.plugin.status(call),
        None => Ok(()),
    }
}

/// Frees addresses of nobody.
pub(crate) fn gc(call: &Call<'_>) -> Result<(), PluginError> {
    match plugin_type(call) {
        Some(ipam) => call.plugins.find(ipam)?.plugin.gc(call),
        None => Ok(()),
    }
}

/// Gives addresses back.
pub(crate) fn del(ipam: Option<&str>, call: &Call<'_>) -> Result<(), PluginError> {
    match ipam {
        Some(ipam) => call.plugins.find(ipam)?.plugin.del(call),
        None => Ok(()),
    }
}

/// Verifies that the addresses are still reserved.
pub(crate) fn check(ipam: Option<&str>, call: &Call<'_>) -> Result<(), PluginError> {
    match ipam {
        Some(ipam) => call.plugins.find(ipam)?.plugin.check(call),
        None => Ok(()),
    }
}
