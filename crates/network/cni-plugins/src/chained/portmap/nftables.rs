//! Host ports by nftables.
//!
//! A mapping is one element of a map; the rules that look in it are made once.

mod apply;
mod elements;
mod of_reference;
mod rules;

use crioxide_cni::{Call, Maker, PluginError};

use super::mapping::{Plan, Port};
use super::{NAME, failed};
use crate::rules::{PacketRules, owner};
pub(super) use apply::{Claim, is_empty, release_where};
use elements::Elements;
pub(crate) use rules::TABLE;

/// Maps the plan's ports; all or none.
pub(super) fn claim(
    rules: &PacketRules,
    plan: &Plan,
    owner: &str,
    claim: Claim,
) -> Result<(), PluginError> {
    let mut socket = rules.sockets.get().map_err(|error| failed(&error))?;
    apply::claim(&mut socket, &Elements::of(plan), owner, claim)
}

/// Gives back what an attachment has, by the plan if it is known.
pub(super) fn release(
    rules: &PacketRules,
    plan: Option<&Plan>,
    owner: &str,
    call: &Call<'_>,
) -> Result<(), PluginError> {
    let mut socket = rules.sockets.get().map_err(|error| failed(&error))?;
    if call.maker == Maker::Unknown {
        of_reference::release(&mut socket, call.container_id);
    }
    match plan.filter(|plan| !plan.is_empty()) {
        Some(plan) => apply::release(&mut socket, &Elements::of(plan).entries, owner),
        None => release_where(&mut socket, TABLE, |found| found == owner),
    }
    .map_err(|error| failed(&error))
}

/// The first port that is not mapped.
pub(super) fn first_missing<'a>(
    rules: &PacketRules,
    plan: &'a Plan,
    owner: &str,
) -> Result<Option<&'a Port>, PluginError> {
    let mut socket = rules.sockets.get().map_err(|error| failed(&error))?;
    let elements = Elements::of(plan);
    let missing = apply::first_missing(&mut socket, &elements.entries, owner);
    let missing = missing.map_err(|error| failed(&error))?;
    let port = missing.map(|entry| entry.port.unwrap_or_default());
    Ok(port.and_then(|at| plan.ports.get(at)))
}

/// Whether rules and elements are all there.
pub(super) fn is_complete(
    rules: &PacketRules,
    plan: &Plan,
    owner: &str,
) -> Result<bool, PluginError> {
    let mut socket = rules.sockets.get().map_err(|error| failed(&error))?;
    apply::is_complete(&mut socket, &Elements::of(plan), owner).map_err(|error| failed(&error))
}

/// Gives back what none of the network's valid attachments has.
pub(super) fn collect(
    rules: &PacketRules,
    network: &str,
    call: &Call<'_>,
) -> Result<(), PluginError> {
    let valid = owner::valid_comments(network, call);
    let mut socket = rules.sockets.get().map_err(|error| failed(&error))?;
    release_where(&mut socket, TABLE, |comment| {
        owner::is_of_network(comment, network) && !valid.contains(comment)
    })
    .map_err(|error| failed(&error))
}
