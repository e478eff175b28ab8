//! Host ports by iptables, in the reference plugin's chains: either removes what the other made.
//!
//! `PREROUTING` and `OUTPUT` lead packets to the host's own addresses to a chain all pods share, that one by
//! port to the pod's own chain. There they get a mark, if they are to be masqueraded, and their new destination.

mod of_cri_o;
mod rules;

use std::collections::HashSet;

use crioxide_cni::{Call, Maker, PluginError, error_code};

use super::mapping::{Plan, Port};
use super::{NAME, failed};
use crate::rules::iptables::{
    Iptables, IptablesError, Saved, Script, Watched, chain_name, dnat_comment, owner_in,
};
use crate::rules::{Backend, PacketRules, owner};
pub(crate) use of_cri_o::release as release_of_cri_o;
use rules::{DNAT, Wanted};

const TABLE: &str = "nat";
/// Chains that older reference plugins made beside ours.
const OLD_SNAT: &str = "SN-";

/// A plan could not be carried out.
enum Refusal {
    Iptables(IptablesError),
    /// Port and owner.
    Taken(String, String),
}

impl From<IptablesError> for Refusal {
    fn from(error: IptablesError) -> Self {
        Self::Iptables(error)
    }
}

impl From<Refusal> for PluginError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Iptables(error) => failed(&error),
            Refusal::Taken(port, owner) => {
                let message = format!("{port} is taken by {owner}");
                Self::reported(NAME, error_code::FAILED, message)
            }
        }
    }
}

/// Maps the plan's ports; of one family all or none.
pub(super) fn claim(
    rules: &PacketRules,
    plan: &Plan,
    network: &str,
    call: &Call<'_>,
) -> Result<(), PluginError> {
    for (tool, wanted) in by_family(rules, plan, network, call) {
        let tool = tool.map_err(|error| failed(&error))?;
        tool.change(Watched::Yes, |saved| match conflict(saved, &wanted) {
            Some((port, owner)) => Err(Refusal::Taken(port, owner)),
            None => Ok(wanted.plan(saved)),
        })?;
        if wanted.guards_localhost() {
            guard_localhost(rules, call);
        }
    }
    Ok(())
}

/// With `route_localnet` the kernel would let neighbours talk to services on 127.0.0.1.
fn guard_localhost(rules: &PacketRules, call: &Call<'_>) {
    let guarded = Iptables::open(&rules.programs, true, "raw", call.deadline).and_then(|tool| {
        tool.change(Watched::Yes, |saved| {
            Ok::<_, IptablesError>(rules::guard(saved))
        })
    });
    if let Err(error) = guarded {
        tracing::warn!(%error, "neighbours of this host are not kept from its 127.0.0.1");
    }
}

/// Gives back what an attachment has.
pub(super) fn release(
    rules: &PacketRules,
    chosen: Backend,
    network: &str,
    call: &Call<'_>,
) -> Result<(), PluginError> {
    let chains =
        [rules::PREFIX, OLD_SNAT].map(|prefix| chain_name(prefix, network, call.container_id));
    let tools = rules
        .holding(chosen, call.maker, (TABLE, &chains[0]), call.deadline)
        .map_err(|error| failed(&error))?;
    for tool in tools {
        let removed: Result<(), IptablesError> = tool.change(Watched::No, |saved| {
            let mut script = Script::default();
            for chain in &chains {
                script.remove_chain(saved, chain);
            }
            Ok(script)
        });
        removed.map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// The first port that is not mapped.
pub(super) fn first_missing<'a>(
    rules: &PacketRules,
    plan: &'a Plan,
    network: &str,
    call: &Call<'_>,
) -> Result<Option<&'a Port>, PluginError> {
    for (tool, wanted) in by_family(rules, plan, network, call) {
        let saved = tool
            .and_then(|tool| tool.save())
            .map_err(|error| failed(&error))?;
        if let Some(port) = wanted.first_missing(&saved) {
            return Ok(Some(port));
        }
    }
    Ok(None)
}

/// Gives back what none of the network's valid attachments has.
pub(super) fn collect(
    rules: &PacketRules,
    network: &str,
    call: &Call<'_>,
) -> Result<(), PluginError> {
    let valid: HashSet<_> = owner::valid_attachments(call).map(|(id, _)| id).collect();
    let tools = rules
        .holding(
            Backend::Iptables,
            Maker::Itself,
            (TABLE, DNAT),
            call.deadline,
        )
        .map_err(|error| failed(&error))?;
    for tool in tools {
        let collected: Result<(), IptablesError> = tool.change(Watched::No, |saved| {
            let mut script = Script::default();
            let garbage: HashSet<_> = saved
                .rules(DNAT)
                .filter(|rule| {
                    let owner = rule.option("--comment").and_then(owner_in);
                    owner.is_some_and(|(of, id)| of == network && !valid.contains(id))
                })
                .filter_map(|rule| rule.option("-j"))
                .collect();
            for chain in garbage {
                script.remove_chain(saved, chain);
            }
            Ok(script)
        });
        collected.map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// A port that another pod has: which, and whose it is.
fn conflict(saved: &Saved, wanted: &Wanted<'_>) -> Option<(String, String)> {
    let others = saved
        .chains()
        .filter(|chain| chain.starts_with("CNI-DN-") && *chain != wanted.chain);
    for chain in others {
        let taken = wanted
            .ports
            .iter()
            .find(|port| saved.rules(chain).any(|rule| rules::is_of_port(rule, port)));
        let Some(port) = taken else { continue };
        let comments = saved
            .jumps(chain)
            .filter_map(|rule| rule.option("--comment"));
        let owner = comments
            .filter_map(owner_in)
            .map(|(network, id)| format!("{network}/{id}"))
            .next();
        // Nothing leads to it: somebody's leavings.
        if owner.is_none() && saved.jumps(chain).next().is_none() {
            continue;
        }
        let owner = owner.unwrap_or_else(|| "something unknown".to_owned());
        return Some((port.label(), owner));
    }
    None
}

/// What is wanted of each family there is, and the table for it.
fn by_family<'a, 'b>(
    rules: &'a PacketRules,
    plan: &'b Plan,
    network: &str,
    call: &Call<'_>,
) -> Vec<(Result<Iptables<'a>, IptablesError>, Wanted<'b>)> {
    let of_family = |pod: &ipnet::IpNet| {
        let ports = plan.ports.iter().filter(|port| port.pod == pod.addr());
        Wanted {
            plan,
            pod: *pod,
            ports: ports.collect(),
            chain: chain_name(rules::PREFIX, network, call.container_id),
            comment: dnat_comment(network, call.container_id),
        }
    };
    let wanted = plan.pods.iter().map(of_family);
    wanted
        .filter(|wanted| !wanted.ports.is_empty())
        .map(|wanted| {
            let ipv4 = wanted.pod.addr().is_ipv4();
            let tool = Iptables::open(&rules.programs, ipv4, TABLE, call.deadline);
            (tool, wanted)
        })
        .collect()
}
