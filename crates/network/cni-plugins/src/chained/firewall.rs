//! Letting a pod's packets through a firewall that refuses what it does not know.
//!
//! Chains and rules are the reference plugin's, made by the `iptables` program: only its own tables
//! can accept what a policy of theirs would drop.

mod isolation;

use std::sync::Arc;

use crioxide_cni::{Call, NetworkResult, Plugin, PluginError, error_code};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::chained::required_result;
use crate::configuration::{invalid, previous_result, read, unsupported, versions};
use crate::rules::PacketRules;
use crate::rules::iptables::{Iptables, IptablesError, Saved, Script, Watched, words};

const NAME: &str = "firewall";
const TABLE: &str = "filter";
const FORWARD: &str = "CNI-FORWARD";
const ADMIN: &str = "CNI-ADMIN";

/// Accepts what goes to and comes from pods.
#[derive(Debug)]
pub(crate) struct Firewall {
    pub(crate) rules: Arc<PacketRules>,
}

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

/// Who may begin a connection to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ingress {
    Open,
    /// Those on the same bridge.
    SameBridge,
    Isolated,
}

impl Plugin for Firewall {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let keys = Keys::read(call)?;
        let result = required_result(NAME, call)?;
        let added = self
            .accept(&keys, &result, call)
            .and_then(|()| self.isolate(&keys, &result, call));
        if added.is_err() {
            let _ = self.forget(&result, call);
        }
        added.map(|()| result.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        // Its rules are known by the pod's addresses alone.
        match previous_result(NAME, call) {
            Ok(Some(result)) => self.forget(&result, call),
            _ => Ok(()),
        }
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let keys = Keys::read(call)?;
        let result = required_result(NAME, call)?;
        for ipv4 in [true, false] {
            let addresses = of_family(&result, ipv4);
            if addresses.is_empty() {
                continue;
            }
            let tool = self.open(ipv4, call)?;
            if !tool.save().map_err(failed)?.has_jump("FORWARD", FORWARD) {
                return Err(differs(format!("FORWARD does not lead to {FORWARD}")));
            }
            for address in addresses {
                for rule in rules(address) {
                    if !tool.has(FORWARD, &rule).map_err(failed)? {
                        let message = format!("packets of {address} are not accepted by {FORWARD}");
                        return Err(differs(message));
                    }
                }
            }
        }
        isolation::check(self, &keys, &result, call)
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        Keys::read(call)?;
        let tool = self.open(true, call);
        tool.and_then(|tool| tool.run(&["-n", "-L", "FORWARD"]).map_err(failed))
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
        let (keys, result) = (Keys::read(call)?, required_result(NAME, call)?);
        self.accept(&keys, &result, call)?;
        self.isolate(&keys, &result, call)
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

impl Firewall {
    fn open(&self, ipv4: bool, call: &Call<'_>) -> Result<Iptables<'_>, PluginError> {
        Iptables::open(&self.rules.programs, ipv4, TABLE, call.deadline).map_err(failed)
    }

    fn accept(
        &self,
        keys: &Keys,
        result: &NetworkResult,
        call: &Call<'_>,
    ) -> Result<(), PluginError> {
        for ipv4 in [true, false] {
            let addresses = of_family(result, ipv4);
            if !addresses.is_empty() {
                let tool = self.open(ipv4, call)?;
                tool.change(Watched::Yes, |saved| Ok(keys.plan(saved, &addresses)))
                    .map_err(failed)?;
            }
        }
        Ok(())
    }

    fn isolate(
        &self,
        keys: &Keys,
        result: &NetworkResult,
        call: &Call<'_>,
    ) -> Result<(), PluginError> {
        isolation::set_up(self, keys, result, call)
    }

    fn forget(&self, result: &NetworkResult, call: &Call<'_>) -> Result<(), PluginError> {
        for ipv4 in [true, false] {
            let addresses = of_family(result, ipv4);
            if addresses.is_empty() {
                continue;
            }
            let is_own = |text: Option<&str>| {
                let text = text.unwrap_or_default();
                addresses.iter().any(|address| address.to_string() == text)
            };
            let tool = self.open(ipv4, call)?;
            let forgotten = tool.change(Watched::No, |saved| {
                let mut script = Script::default();
                saved
                    .rules(FORWARD)
                    .filter(|rule| is_own(rule.option("-s")) || is_own(rule.option("-d")))
                    .for_each(|rule| {
                        script.delete(rule);
                    });
                Ok(script)
            });
            forgotten.map_err(failed)?;
        }
        Ok(())
    }
}

impl Keys {
    fn read(call: &Call<'_>) -> Result<Self, PluginError> {
        let keys: Self = read(NAME, call)?;
        if !matches!(keys.backend.as_str(), "" | "iptables") {
            return Err(unsupported(NAME, "backend"));
        }
        keys.ingress()?;
        Ok(keys)
    }

    fn ingress(&self) -> Result<Ingress, PluginError> {
        Ok(match self.ingress_policy.as_str() {
            "" | "open" => Ingress::Open,
            "same-bridge" => Ingress::SameBridge,
            "isolated" => Ingress::Isolated,
            other => {
                let shown = other.escape_default();
                return Err(invalid(NAME, format!("unknown `ingressPolicy` `{shown}`")));
            }
        })
    }

    fn plan(&self, saved: &Saved, addresses: &[IpNet]) -> Script {
        let admin = if self.iptables_admin_chain_name.is_empty() {
            ADMIN
        } else {
            &self.iptables_admin_chain_name
        };
        let mut script = Script::default();
        script.share_chain(FORWARD).share_chain(admin);
        if !saved.has_jump("FORWARD", FORWARD) {
            script.insert_first("FORWARD", &jump("CNI firewall plugin rules", FORWARD));
        }
        if !saved.has_jump(FORWARD, admin) {
            let rule = jump("CNI firewall plugin admin overrides", admin);
            script.insert_first(FORWARD, &rule);
        }
        for address in addresses {
            let text = address.to_string();
            for (option, rule) in ["-d", "-s"].into_iter().zip(rules(*address)) {
                let is_there = saved
                    .rules(FORWARD)
                    .any(|found| found.option(option) == Some(&text));
                if !is_there {
                    script.append(FORWARD, &rule);
                }
            }
        }
        script
    }
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

fn of_family(result: &NetworkResult, ipv4: bool) -> Vec<IpNet> {
    let addresses = result.ips.iter().map(|ip| IpNet::from(ip.address.addr()));
    addresses
        .filter(|address| address.addr().is_ipv4() == ipv4)
        .collect()
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn failed(error: IptablesError) -> PluginError {
    PluginError::caused(NAME, error_code::FAILED, &error)
}

fn differs(message: String) -> PluginError {
    PluginError::reported(NAME, error_code::FAILED, message)
}
