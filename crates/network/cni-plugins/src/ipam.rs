//! Address management, delegated to the plugin that the `ipam` section names.

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
