//! Letting a pod's packets through a firewall that refuses what it does not know.
//!
//! Chains and rules are the reference plugin's, made by the `iptables` program: only its own tables
//! can accept what a policy of theirs would drop.

use crioxide_cni::{Call, NetworkResult, Plugin, PluginError, error_code};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::chained::required_result;
use crate::configuration::{previous_result, read, unsupported, versions};
use crate::rules::iptables::{Iptables, words};

const NAME: &str = "firewall";
const FORWARD: &str = "CNI-FORWARD";
const ADMIN: &str = "CNI-ADMIN";

/// Accepts what goes to and comes from pods.
#[derive(Debug)]
pub(crate) struct Firewall;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default)]
    backend: String,
    #[serde(default)]
    iptables_admin_chain_name: String,
    #[serde(default)]
    ingress_policy: String,
}

impl Plugin for Firewall {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let keys = keys(call)?;
        let result = required_result(NAME, call)?;
        let added = accept(&keys, &result, call);
        if added.is_err() {
            for (address, tool) in addresses(&result, call) {
                let _ = forget(&tool, address);
            }
        }
        added.map(|()| result.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        // Its rules are known by the pod's addresses alone.
        let Ok(Some(result)) = previous_result(NAME, call) else {
            return Ok(());
        };
        let done = addresses(&result, call).map(|(address, tool)| forget(&tool, address));
        done.fold(Ok(()), Result::and)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        keys(call)?;
        let result = required_result(NAME, call)?;
        for (address, tool) in addresses(&result, call) {
            for rule in rules(address) {
                if !tool.has(FORWARD, &rule)? {
                    let message = format!("packets of {address} are not accepted by {FORWARD}");
                    return Err(PluginError::reported(NAME, error_code::FAILED, message));
                }
            }
        }
        Ok(())
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        keys(call)?;
        table(true, call)
            .run(&["-n", "-L", "FORWARD"])
            .map_err(|error| {
                PluginError::reported(NAME, error_code::NOT_AVAILABLE, error.to_string())
            })
    }

    fn gc(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn restore(&self, call: &Call<'_>) -> Result<(), PluginError> {
        if self.check(call).is_ok() {
            return Ok(());
        }
        accept(&keys(call)?, &required_result(NAME, call)?, call)
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

fn keys(call: &Call<'_>) -> Result<Keys, PluginError> {
    let keys: Keys = read(NAME, call)?;
    if !matches!(keys.backend.as_str(), "" | "iptables") {
        return Err(unsupported(NAME, "backend"));
    }
    // Ignoring it would connect networks that were to be kept apart.
    if !matches!(keys.ingress_policy.as_str(), "" | "open") {
        return Err(unsupported(NAME, "ingressPolicy"));
    }
    Ok(keys)
}

fn accept(keys: &Keys, result: &NetworkResult, call: &Call<'_>) -> Result<(), PluginError> {
    let admin = if keys.iptables_admin_chain_name.is_empty() {
        ADMIN
    } else {
        &keys.iptables_admin_chain_name
    };
    for (address, tool) in addresses(result, call) {
        tool.ensure_chain(FORWARD)?;
        tool.ensure_first("FORWARD", &jump("CNI firewall plugin rules", FORWARD))?;
        tool.ensure_chain(admin)?;
        tool.ensure_first(FORWARD, &jump("CNI firewall plugin admin overrides", admin))?;
        for rule in rules(address) {
            tool.ensure(FORWARD, &rule)?;
        }
    }
    Ok(())
}

fn forget(tool: &Iptables<'_>, address: IpNet) -> Result<(), PluginError> {
    for rule in rules(address) {
        // Tables that somebody emptied hold no rule of ours either.
        if tool.has(FORWARD, &rule).unwrap_or(false) {
            tool.delete(FORWARD, &rule)?;
        }
    }
    Ok(())
}

fn rules(address: IpNet) -> [Vec<String>; 2] {
    [
        words(&format!(
            "-d {address} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        )),
        words(&format!("-s {address} -j ACCEPT")),
    ]
}

fn jump(comment: &str, chain: &str) -> Vec<String> {
    ["-m", "comment", "--comment", comment, "-j", chain]
        .map(str::to_owned)
        .to_vec()
}

fn addresses(
    result: &NetworkResult,
    call: &Call<'_>,
) -> impl Iterator<Item = (IpNet, Iptables<'static>)> {
    result.ips.iter().map(|ip| {
        let address = IpNet::from(ip.address.addr());
        (address, table(address.addr().is_ipv4(), call))
    })
}

fn table(ipv4: bool, call: &Call<'_>) -> Iptables<'static> {
    Iptables {
        plugin: NAME,
        ipv4,
        table: "filter",
        deadline: call.deadline,
    }
}
