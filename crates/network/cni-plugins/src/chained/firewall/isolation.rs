//! Keeping pods apart: who else may begin a connection to those of a bridge.
//!
//! `FORWARD` leads to a first stage, which sends what leaves a bridge for elsewhere to a second, which drops what is
//! about to enter a bridge. The rules are of bridges, not of pods, and stay.

use crioxide_cni::{Call, NetworkResult, PluginError};

use super::{Firewall, Ingress, Keys, NAME, differs, failed, of_family};
use crate::configuration::invalid;
use crate::rules::iptables::{Rule, Saved, Script, Watched};

const STAGE_1: &str = "CNI-ISOLATION-STAGE-1";
const STAGE_2: &str = "CNI-ISOLATION-STAGE-2";
const ALL_POLICIES: &str = "same-bridge|isolated";

pub(super) fn set_up(
    firewall: &Firewall,
    keys: &Keys,
    result: &NetworkResult,
    call: &Call<'_>,
) -> Result<(), PluginError> {
    let ingress = keys.ingress()?;
    if ingress == Ingress::Open {
        return Ok(());
    }
    let bridge = bridge(result)?;
    for ipv4 in families(result) {
        firewall
            .open(ipv4, call)?
            .change(Watched::Yes, |saved| Ok(plan(saved, bridge, ingress)))
            .map_err(failed)?;
    }
    Ok(())
}

pub(super) fn check(
    firewall: &Firewall,
    keys: &Keys,
    result: &NetworkResult,
    call: &Call<'_>,
) -> Result<(), PluginError> {
    let ingress = keys.ingress()?;
    if ingress == Ingress::Open {
        return Ok(());
    }
    let bridge = bridge(result)?;
    for ipv4 in families(result) {
        let saved = firewall.open(ipv4, call)?.save().map_err(failed)?;
        let is_whole = saved.has_jump("FORWARD", STAGE_1)
            && has(&saved, STAGE_1, |rule| leaves(rule, bridge))
            && has(&saved, STAGE_2, |rule| enters(rule, bridge))
            && (ingress != Ingress::Isolated
                || has(&saved, STAGE_1, |rule| stays_within(rule, bridge)));
        if !is_whole {
            return Err(differs(format!("pods of `{bridge}` are not isolated")));
        }
    }
    Ok(())
}

fn families(result: &NetworkResult) -> impl Iterator<Item = bool> {
    [true, false]
        .into_iter()
        .filter(|ipv4| !of_family(result, *ipv4).is_empty())
}

/// The plugin before us says it first.
fn bridge(result: &NetworkResult) -> Result<&str, PluginError> {
    let first = result.interfaces.first().map(|link| link.name.as_str());
    first.filter(|name| !name.is_empty()).ok_or_else(|| {
        invalid(
            NAME,
            "`ingressPolicy` needs the plugin `bridge` before this one",
        )
    })
}

fn plan(saved: &Saved, bridge: &str, ingress: Ingress) -> Script {
    let policy = match ingress {
        Ingress::Isolated => "isolated",
        _ => "same-bridge",
    };
    let mut script = Script::default();
    script.share_chain(STAGE_1).share_chain(STAGE_2);
    // Before what accepts packets of pods.
    if !saved.has_jump("FORWARD", STAGE_1) {
        script.insert_first("FORWARD", &commented(&["-j", STAGE_1], ALL_POLICIES));
    }
    if !has(saved, STAGE_1, |rule| leaves(rule, bridge)) {
        let rule = ["-i", bridge, "!", "-o", bridge, "-j", STAGE_2];
        script.insert_first(STAGE_1, &commented(&rule, policy));
    }
    if ingress == Ingress::Isolated && !has(saved, STAGE_1, |rule| stays_within(rule, bridge)) {
        let rule = ["-i", bridge, "-o", bridge, "-j", "DROP"];
        script.insert_first(STAGE_1, &commented(&rule, policy));
    }
    if !has(saved, STAGE_2, |rule| enters(rule, bridge)) {
        let rule = ["-o", bridge, "-j", "DROP"];
        script.insert_first(STAGE_2, &commented(&rule, ALL_POLICIES));
    }
    for stage in [STAGE_1, STAGE_2] {
        if !has(saved, stage, |rule| rule.option("-j") == Some("RETURN")) {
            script.append(stage, &commented(&["-j", "RETURN"], ALL_POLICIES));
        }
    }
    script
}

fn leaves(rule: &Rule, bridge: &str) -> bool {
    rule.option("-i") == Some(bridge) && rule.is_negated("-o") && rule.option("-j") == Some(STAGE_2)
}

fn stays_within(rule: &Rule, bridge: &str) -> bool {
    rule.option("-i") == Some(bridge)
        && rule.option("-o") == Some(bridge)
        && !rule.is_negated("-o")
        && rule.option("-j") == Some("DROP")
}

fn enters(rule: &Rule, bridge: &str) -> bool {
    rule.option("-o") == Some(bridge) && rule.option("-i").is_none()
}

fn has(saved: &Saved, chain: &str, wanted: impl Fn(&Rule) -> bool) -> bool {
    saved.rules(chain).any(wanted)
}

fn commented(rule: &[&str], policy: &str) -> Vec<String> {
    let comment = format!("CNI firewall plugin rules (ingressPolicy: {policy})");
    let words = rule.iter().copied().chain(["-m", "comment", "--comment"]);
    words.map(str::to_owned).chain([comment]).collect()
}
