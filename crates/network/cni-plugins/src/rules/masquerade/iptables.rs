//! Masquerading by iptables: a chain per attachment, as the reference plugins make it.

use std::collections::HashSet;

use crioxide_cni::{IpConfig, Maker, NetworkResult};
use ipnet::IpNet;

use super::Masquerade;
use crate::rules::iptables::{
    Iptables, IptablesError, Rule, Saved, Script, Watched, chain_name, masquerade_comment, owner_in,
};
use crate::rules::{RulesError, owner};

const TABLE: &str = "nat";
const HOOK: &str = "POSTROUTING";

pub(super) fn add(masquerade: &Masquerade<'_>, ips: &[IpConfig]) -> Result<(), RulesError> {
    for (tool, addresses) in by_family(masquerade, ips) {
        tool?.change(Watched::Yes, |saved| {
            Ok::<_, RulesError>(masquerade.plan(saved, &addresses))
        })?;
    }
    Ok(())
}

pub(super) fn is_in_place(
    masquerade: &Masquerade<'_>,
    ips: &[IpConfig],
) -> Result<bool, RulesError> {
    let chain = masquerade.chain();
    for (tool, addresses) in by_family(masquerade, ips) {
        let saved = tool?.save()?;
        let is_led_there = |address: &IpNet| {
            let source = source_of(*address);
            saved.jumps(&chain).any(|rule| is_jump_of(rule, &source))
        };
        if saved.rules(&chain).count() <= addresses.len() || !addresses.iter().all(is_led_there) {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn remove(
    masquerade: &Masquerade<'_>,
    previous: Option<&NetworkResult>,
) -> Result<(), RulesError> {
    let call = masquerade.call;
    let chain = masquerade.chain();
    let sources: Option<HashSet<_>> = previous
        .filter(|result| !result.ips.is_empty())
        .map(|result| result.ips.iter().map(|ip| source_of(ip.address)).collect());
    let tools = masquerade.rules.holding(
        masquerade.backend,
        call.maker,
        (TABLE, &chain),
        call.deadline,
    )?;
    tools.iter().try_for_each(|tool| {
        tool.change(Watched::No, |saved| {
            Ok(masquerade.plan_removal(saved, sources.as_ref()))
        })
    })
}

pub(super) fn collect(masquerade: &Masquerade<'_>) -> Result<(), RulesError> {
    let call = masquerade.call;
    let valid: HashSet<_> = owner::valid_attachments(call).map(|(id, _)| id).collect();
    let is_garbage = |comment: &str| {
        owner_in(comment)
            .is_some_and(|(network, id)| network == masquerade.network && !valid.contains(id))
    };
    let tools = masquerade.rules.holding(
        masquerade.backend,
        Maker::Itself,
        (TABLE, HOOK),
        call.deadline,
    )?;
    tools.iter().try_for_each(|tool| {
        tool.change(Watched::No, |saved| {
            let mut script = Script::default();
            let garbage: HashSet<_> = saved
                .rules(HOOK)
                .filter(|rule| rule.option("--comment").is_some_and(is_garbage))
                .filter_map(|rule| rule.option("-j"))
                .filter(|chain| chain.starts_with("CNI-"))
                .collect();
            for chain in garbage {
                script.remove_chain(saved, chain);
            }
            Ok(script)
        })
    })
}

impl Masquerade<'_> {
    fn chain(&self) -> String {
        chain_name("", self.network, self.call.container_id)
    }

    /// `nothing for the subnet; nothing for multicast; masquerade`, for packets from the pod's addresses. Interfaces of one
    /// pod on one network share the chain.
    fn plan(&self, saved: &Saved, addresses: &[IpNet]) -> Script {
        let chain = self.chain();
        let comment = masquerade_comment(self.network, self.call.container_id);
        let rule = |words: &[&str], target: &str| -> Vec<String> {
            let rest = ["-m", "comment", "--comment", &comment, "-j", target];
            let all = words.iter().chain(&rest);
            all.map(|word| (*word).to_owned()).collect()
        };
        let has = |in_chain: &str, option: &str, value: &str| {
            saved
                .rules(in_chain)
                .any(|rule| rule.option(option) == Some(value))
        };
        let mut script = Script::default();
        if !saved.has_chain(&chain) {
            script.empty_chain(&chain);
        }
        if !has(&chain, "-j", "MASQUERADE") {
            let multicast = match addresses.first() {
                Some(IpNet::V6(_)) => "ff00::/8",
                _ => "224.0.0.0/4",
            };
            script.append(&chain, &rule(&["!", "-d", multicast], "MASQUERADE"));
        }
        for address in addresses {
            let subnet = address.trunc().to_string();
            if !has(&chain, "-d", &subnet) {
                script.insert_first(&chain, &rule(&["-d", &subnet], "ACCEPT"));
            }
            let source = source_of(*address);
            let is_led_there = |found: &Rule| is_jump_of(found, &source);
            if !saved.jumps(&chain).any(is_led_there) {
                script.append(HOOK, &rule(&["-s", &source], &chain));
            }
        }
        script
    }

    /// Takes away the jumps for the addresses, or for all; and the chain with the last.
    fn plan_removal(&self, saved: &Saved, sources: Option<&HashSet<String>>) -> Script {
        let chain = self.chain();
        let is_own = |rule: &Rule| {
            sources.is_none_or(|own| rule.option("-s").is_some_and(|source| own.contains(source)))
        };
        let mut script = Script::default();
        if saved.jumps(&chain).all(is_own) {
            script.remove_chain(saved, &chain);
        } else {
            for rule in saved.jumps(&chain).filter(|rule| is_own(rule)) {
                script.delete(rule);
            }
        }
        script
    }
}

/// An address as a rule's source.
fn source_of(address: IpNet) -> String {
    IpNet::from(address.addr()).to_string()
}

fn is_jump_of(rule: &Rule, source: &str) -> bool {
    rule.chain == HOOK && rule.option("-s") == Some(source)
}

/// The addresses of each family there is, and the table for them.
fn by_family<'a>(
    masquerade: &Masquerade<'a>,
    ips: &[IpConfig],
) -> Vec<(Result<Iptables<'a>, IptablesError>, Vec<IpNet>)> {
    let Masquerade { rules, call, .. } = *masquerade;
    let families = [true, false].map(|ipv4| {
        let addresses = ips.iter().map(|ip| ip.address);
        let of_family: Vec<_> = addresses
            .filter(|address| address.addr().is_ipv4() == ipv4)
            .collect();
        (ipv4, of_family)
    });
    let used = families
        .into_iter()
        .filter(|(_, addresses)| !addresses.is_empty());
    used.map(|(ipv4, addresses)| {
        let tool = Iptables::open(&rules.programs, ipv4, TABLE, call.deadline);
        (tool, addresses)
    })
    .collect()
}
