//! The bridge plugin's keys.

use crioxide_cni::{Call, PluginError};
use serde::Deserialize;
use serde_json::Value;

use super::NAME;
use crate::configuration::{invalid, read, unsupported};

const DEFAULT_BRIDGE: &str = "cni0";
/// Keys that change how the pod is connected and are not built; ignoring one would connect pods
/// that were to be kept apart.
const UNSUPPORTED: [&str; 6] = [
    "vlan",
    "vlanTrunk",
    "macspoofchk",
    "disableContainerInterface",
    "portIsolation",
    "enabledad",
];

/// Checked settings of a call.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) bridge: String,
    pub(super) is_gateway: bool,
    pub(super) is_default_gateway: bool,
    pub(super) force_address: bool,
    pub(super) ip_masq: bool,
    pub(super) masquerade_backend: Option<String>,
    pub(super) mtu: Option<u32>,
    pub(super) hairpin: bool,
    pub(super) promiscuous: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default)]
    bridge: String,
    #[serde(default)]
    is_gateway: bool,
    #[serde(default)]
    is_default_gateway: bool,
    #[serde(default)]
    force_address: bool,
    #[serde(default)]
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    hairpin_mode: bool,
    #[serde(default)]
    promisc_mode: bool,
}

impl Settings {
    pub(super) fn read(call: &Call<'_>) -> Result<Self, PluginError> {
        for key in UNSUPPORTED {
            if call.config.get(key).is_some_and(is_set) {
                return Err(unsupported(NAME, key));
            }
        }
        let keys: Keys = read(NAME, call)?;
        if keys.hairpin_mode && keys.promisc_mode {
            return Err(invalid(
                NAME,
                "`hairpinMode` and `promiscMode` cannot be set at the same time",
            ));
        }
        let bridge = if keys.bridge.is_empty() {
            DEFAULT_BRIDGE.to_owned()
        } else {
            keys.bridge
        };
        if bridge.len() > 15
            || bridge.contains(['/', ':', ' ', '\0'])
            || bridge == "."
            || bridge == ".."
        {
            return Err(invalid(
                NAME,
                format!(
                    "`bridge` is not an interface name: `{}`",
                    bridge.escape_default()
                ),
            ));
        }
        Ok(Self {
            bridge,
            is_gateway: keys.is_gateway || keys.is_default_gateway,
            is_default_gateway: keys.is_default_gateway,
            force_address: keys.force_address,
            ip_masq: keys.ip_masq,
            masquerade_backend: keys.ip_masq_backend,
            mtu: (keys.mtu > 0).then_some(keys.mtu),
            hairpin: keys.hairpin_mode,
            promiscuous: keys.promisc_mode,
        })
    }
}

/// Whether a key's value asks for something.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_i64() != Some(0),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    }
}
