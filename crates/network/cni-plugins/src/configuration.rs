//! Reading a call's configuration, and the checks all plugins share.

use std::path::Path;

use crioxide_cni::{Call, NetworkResult, PluginError, SpecVersion, error_code};
use crioxide_netlink::{MacAddress, Netns, ParseMacError};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads the keys a plugin knows.
pub(crate) fn read<T: DeserializeOwned>(plugin: &str, call: &Call<'_>) -> Result<T, PluginError> {
    T::deserialize(Value::Object(call.config.clone())).map_err(|error| {
        PluginError::reported(
            plugin,
            error_code::DECODING_FAILURE,
            format!("read network configuration: {error}"),
        )
    })
}

/// The network's name.
pub(crate) fn network_name<'a>(plugin: &str, call: &'a Call<'_>) -> Result<&'a str, PluginError> {
    let name = call
        .config
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    // It becomes part of a path and of rule names.
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(invalid(
            plugin,
            format!(
                "`name` is not the name of a network: `{}`",
                name.escape_default()
            ),
        ));
    }
    Ok(name)
}

/// The result of the previous plugin, or of ADD; none when there is none.
pub(crate) fn previous_result(
    plugin: &str,
    call: &Call<'_>,
) -> Result<Option<NetworkResult>, PluginError> {
    let previous = call
        .config
        .get("prevResult")
        .filter(|value| !value.is_null());
    let parsed = previous
        .map(|value| NetworkResult::parse(value, call.version))
        .transpose();
    parsed.map_err(|error| PluginError::caused(plugin, error_code::DECODING_FAILURE, &error))
}

/// The pod's network namespace, which ADD and CHECK need.
pub(crate) fn open_netns(plugin: &str, call: &Call<'_>) -> Result<Netns, PluginError> {
    let path = call.netns.unwrap_or(Path::new(""));
    Netns::open(path)
        .map_err(|error| PluginError::caused(plugin, error_code::UNKNOWN_CONTAINER, &error))
}

/// Who may ask for a hardware address, beyond the configuration itself and `CNI_ARGS`: which of both goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MacOrder {
    RuntimeWins,
    ArgsWin,
}

/// The hardware address that the pod's interface is to have: `mac`, or by `CNI_ARGS`, `args` and runtime configuration, the
/// later winning.
pub(crate) fn requested_mac(
    plugin: &str,
    call: &Call<'_>,
    order: MacOrder,
) -> Result<Option<MacAddress>, PluginError> {
    let key = |path: &[&str]| {
        let (first, rest) = path.split_first()?;
        let found = rest
            .iter()
            .try_fold(call.config.get(*first)?, |value, key| value.get(*key));
        found?.as_str()
    };
    let argument = call
        .args
        .iter()
        .find(|(key, _)| key == "MAC")
        .map(|(_, value)| value.as_str());
    let (by_args, by_runtime) = (key(&["args", "cni", "mac"]), key(&["runtimeConfig", "mac"]));
    let [later, last] = match order {
        MacOrder::RuntimeWins => [by_args, by_runtime],
        MacOrder::ArgsWin => [by_runtime, by_args],
    };
    [key(&["mac"]), argument, later, last]
        .into_iter()
        .flatten()
        .rfind(|mac| !mac.is_empty())
        .map(str::parse)
        .transpose()
        .map_err(|error: ParseMacError| invalid(plugin, format!("`mac`: {error}")))
}

pub(crate) fn invalid(plugin: &str, message: impl Into<String>) -> PluginError {
    PluginError::reported(plugin, error_code::INVALID_CONFIG, message)
}

pub(crate) fn unsupported(plugin: &str, key: &str) -> PluginError {
    PluginError::reported(
        plugin,
        error_code::UNSUPPORTED_FIELD,
        format!("configuration key `{key}` is not supported"),
    )
}

/// All versions these plugins speak.
pub(crate) fn versions() -> Vec<String> {
    SpecVersion::ALL
        .iter()
        .map(|version| version.as_str().to_owned())
        .collect()
}
