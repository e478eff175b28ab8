//! Addresses written in the configuration.

use std::net::IpAddr;

use crioxide_cni::{Call, Dns, IpConfig, NetworkResult, Plugin, PluginError, Route, error_code};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::configuration::{invalid, previous_result, read, versions};

const NAME: &str = "static";

/// Hands out the configured addresses.
#[derive(Debug)]
pub(crate) struct StaticIpam;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    ipam: Ipam,
    #[serde(default)]
    runtime_config: Requested,
    #[serde(default)]
    args: Args,
}

#[derive(Deserialize)]
struct Ipam {
    #[serde(default)]
    addresses: Vec<Address>,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Deserialize)]
struct Address {
    address: IpNet,
    #[serde(default)]
    gateway: Option<IpAddr>,
}

#[derive(Default, Deserialize)]
struct Args {
    #[serde(default)]
    cni: Requested,
}

#[derive(Default, Deserialize)]
struct Requested {
    #[serde(default)]
    ips: Vec<IpNet>,
}

impl Plugin for StaticIpam {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        Ok(resolve(call)?.to_value(call.version))
    }

    fn del(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let wanted = resolve(call)?;
        let previous = previous_result(NAME, call)?.unwrap_or_default();
        for ip in &wanted.ips {
            if !previous.ips.iter().any(|given| given.address == ip.address) {
                let message = format!("address {} is not in the result", ip.address);
                return Err(PluginError::reported(NAME, error_code::FAILED, message));
            }
        }
        Ok(())
    }

    fn status(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn gc(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

/// The configured addresses, or those asked for by `CNI_ARGS`, `args` or runtime configuration,
/// the later winning.
fn resolve(call: &Call<'_>) -> Result<NetworkResult, PluginError> {
    let configuration: Configuration = read(NAME, call)?;
    let plain = |address: &IpNet| IpConfig {
        address: *address,
        gateway: None,
        interface: None,
    };
    let mut ips: Vec<_> = configuration
        .ipam
        .addresses
        .iter()
        .map(|entry| IpConfig {
            address: entry.address,
            gateway: entry.gateway,
            interface: None,
        })
        .collect();
    let argument = |wanted: &str| {
        call.args
            .iter()
            .find(|(key, _)| key == wanted)
            .map(|(_, value)| value.as_str())
    };
    if let Some(list) = argument("IP").filter(|list| !list.is_empty()) {
        let parsed: Result<Vec<IpNet>, _> =
            list.split(',').map(|text| text.trim().parse()).collect();
        let parsed = parsed.map_err(|_| {
            invalid(
                NAME,
                format!("CNI_ARGS: `IP={list}` is not a list of addresses with prefix"),
            )
        })?;
        ips = parsed.iter().map(plain).collect();
    }
    for requested in [
        &configuration.args.cni.ips,
        &configuration.runtime_config.ips,
    ] {
        if !requested.is_empty() {
            ips = requested.iter().map(plain).collect();
        }
    }
    if let Some(list) = argument("GATEWAY").filter(|list| !list.is_empty()) {
        for text in list.split(',') {
            let gateway: IpAddr = text.trim().parse().map_err(|_| {
                invalid(
                    NAME,
                    format!("CNI_ARGS: `GATEWAY={list}` is not a list of addresses"),
                )
            })?;
            for ip in ips.iter_mut().filter(|ip| ip.address.contains(&gateway)) {
                ip.gateway = Some(gateway);
            }
        }
    }
    if ips.is_empty() {
        return Err(invalid(
            NAME,
            "`ipam.addresses` is empty and no address was asked for",
        ));
    }
    Ok(NetworkResult {
        ips,
        routes: configuration.ipam.routes,
        dns: configuration.ipam.dns,
        ..NetworkResult::default()
    })
}
