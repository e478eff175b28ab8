//! The bandwidth plugin's keys.

use std::fmt::Write;

use crioxide_cni::{Call, PluginError};
use crioxide_netlink::Rate;
use serde::Deserialize;
use sha2::{Digest, Sha512};

use super::NAME;
use crate::configuration::{invalid, read, unsupported};

/// Interface names have at most 15 characters.
const NAME_LENGTH: usize = 15;

/// Checked settings of a call.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) ingress: Option<Rate>,
    pub(super) egress: Option<Rate>,
}

/// Bits per second, and bits.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    #[serde(default)]
    ingress_rate: u64,
    #[serde(default)]
    ingress_burst: u64,
    #[serde(default)]
    egress_rate: u64,
    #[serde(default)]
    egress_burst: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(flatten)]
    limits: Limits,
    #[serde(default)]
    runtime_config: RuntimeConfig,
}

#[derive(Default, Deserialize)]
struct RuntimeConfig {
    #[serde(default)]
    bandwidth: Option<Limits>,
}

impl Settings {
    pub(super) fn read(call: &Call<'_>) -> Result<Self, PluginError> {
        for key in ["unshapedSubnets", "shapedSubnets"] {
            let listed = call.config.get(key).and_then(serde_json::Value::as_array);
            if listed.is_some_and(|subnets| !subnets.is_empty()) {
                return Err(unsupported(NAME, key));
            }
        }
        let keys: Keys = read(NAME, call)?;
        let limits = keys.runtime_config.bandwidth.unwrap_or(keys.limits);
        Ok(Self {
            ingress: rate("ingress", limits.ingress_rate, limits.ingress_burst)?,
            egress: rate("egress", limits.egress_rate, limits.egress_burst)?,
        })
    }

    pub(super) fn is_unlimited(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

fn rate(direction: &str, bits_per_second: u64, burst: u64) -> Result<Option<Rate>, PluginError> {
    match (bits_per_second, burst) {
        (0, 0) => Ok(None),
        (0, _) => Err(invalid(
            NAME,
            format!("`{direction}Burst` is set without `{direction}Rate`"),
        )),
        (_, 0) => Err(invalid(
            NAME,
            format!("`{direction}Rate` is set without `{direction}Burst`"),
        )),
        (rate, burst) => {
            let burst = u32::try_from(burst / 8)
                .map_err(|_| invalid(NAME, format!("`{direction}Burst` must be below 4 GiB")))?;
            Ok(Some(Rate {
                bytes_per_second: (rate / 8).max(1),
                burst: burst.max(1),
            }))
        }
    }
}

/// Name of a pod's queueing device, as the reference plugin makes it: either must find the other's.
pub(super) fn queue_name(network: &str, container_id: &str) -> String {
    let digest = Sha512::digest(format!("{network}{container_id}"));
    let mut name = "bwp".to_owned();
    for byte in digest {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name.truncate(NAME_LENGTH);
    name
}
