//! Putting elements into the maps and taking them out again.

use crioxide_cni::{PluginError, error_code};
use crioxide_netlink::NetlinkError;
use crioxide_netlink::nft::{Element, Family, NftSocket, StoredElement, Transaction};
use rustix::io::Errno;

use super::elements::{Elements, Entry};
use super::rules::{
    ADDRESS_PORTS, PORTS, TABLE, base_chains, hairpin_set, is_hairpin_set, push_base, push_hairpin,
};
use super::{NAME, failed};

/// Whether a pod's ports are new, or had been its own before the rules were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    New,
    Again,
}

/// Adds a pod's elements; all or none. A port that another pod has is an error.
pub(super) fn claim(
    socket: &mut NftSocket,
    plan: &Elements,
    comment: &str,
    claim: Claim,
) -> Result<(), PluginError> {
    let claimed = match claim {
        Claim::New => {
            let mut elements_only = Transaction::new();
            push_elements(&mut elements_only, &plan.entries, comment, claim);
            match elements_only.commit(socket) {
                // Some table, map or set is not there (any more): make them all, then try again.
                Err(error) if error.errno() == Some(Errno::NOENT) => {
                    claim_with_rules(socket, plan, comment, claim)
                }
                claimed => claimed,
            }
        }
        Claim::Again => claim_with_rules(socket, plan, comment, claim),
    };
    match claimed {
        Err(error) if error.errno() == Some(Errno::EXIST) => Err(conflict(socket, plan, &error)),
        claimed => claimed.map_err(|error| failed(&error)),
    }
}

fn claim_with_rules(
    socket: &mut NftSocket,
    plan: &Elements,
    comment: &str,
    claim: Claim,
) -> Result<(), NetlinkError> {
    let sets = hairpin_sets(plan);
    let mut everything = Transaction::new();
    for family in families(plan) {
        push_base(&mut everything, family);
    }
    for (subnet, set) in plan.subnets.iter().zip(&sets) {
        push_hairpin(
            &mut everything,
            crate::rules::packets::family(subnet.addr()),
            *subnet,
            set,
        );
    }
    push_elements(&mut everything, &plan.entries, comment, claim);
    everything.commit(socket)
}

/// Whether rules and elements are all there.
pub(super) fn is_complete(
    socket: &mut NftSocket,
    plan: &Elements,
    comment: &str,
) -> Result<bool, NetlinkError> {
    for family in families(plan) {
        for (chain, rules) in base_chains(family) {
            if socket.rule_count(family, TABLE, chain)? < rules {
                return Ok(false);
            }
        }
    }
    for (subnet, set) in plan.subnets.iter().zip(hairpin_sets(plan)) {
        let family = crate::rules::packets::family(subnet.addr());
        if socket.rule_count(family, TABLE, &set)? == 0 {
            return Ok(false);
        }
    }
    Ok(first_missing(socket, &plan.entries, comment)?.is_none())
}

fn families(plan: &Elements) -> impl Iterator<Item = Family> {
    let used = |family: &Family| plan.entries.iter().any(|entry| entry.family == *family);
    [Family::Ip, Family::Ip6].into_iter().filter(used)
}

fn hairpin_sets(plan: &Elements) -> Vec<String> {
    plan.subnets
        .iter()
        .map(|subnet| hairpin_set(subnet.prefix_len()))
        .collect()
}

/// Removes those of the elements that belong to `comment`: a port may have a new owner by now.
pub(super) fn release(
    socket: &mut NftSocket,
    entries: &[Entry],
    comment: &str,
) -> Result<(), NetlinkError> {
    for entry in entries {
        let found = socket.elements(
            entry.family,
            TABLE,
            &entry.set,
            std::slice::from_ref(&entry.key),
        )?;
        let own = found
            .into_iter()
            .filter(|element| element.comment.as_deref() == Some(comment))
            .collect();
        delete(socket, entry.family, (TABLE, &entry.set), own)?;
    }
    Ok(())
}

/// Removes every element of a table whose comment is wanted.
pub(crate) fn release_where(
    socket: &mut NftSocket,
    table: &str,
    wanted: impl Fn(&str) -> bool,
) -> Result<(), NetlinkError> {
    for family in [Family::Ip, Family::Ip6] {
        for set in socket.set_names(family, table)? {
            let elements = socket.all_elements(family, table, &set)?.into_iter();
            let matching = elements
                .filter(|element| element.comment.as_deref().is_some_and(&wanted))
                .collect();
            delete(socket, family, (table, &set), matching)?;
        }
    }
    Ok(())
}

/// The first entry that is not there for this pod.
pub(super) fn first_missing<'a>(
    socket: &mut NftSocket,
    entries: &'a [Entry],
    comment: &str,
) -> Result<Option<&'a Entry>, NetlinkError> {
    for entry in entries {
        let found = socket.elements(
            entry.family,
            TABLE,
            &entry.set,
            std::slice::from_ref(&entry.key),
        )?;
        let present = found.iter().any(|element| {
            element.comment.as_deref() == Some(comment) && element.data == entry.data
        });
        if !present {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// Whether the maps hold nothing.
pub(crate) fn is_empty(socket: &mut NftSocket) -> Result<bool, NetlinkError> {
    for family in [Family::Ip, Family::Ip6] {
        for set in [PORTS, ADDRESS_PORTS] {
            if !socket.all_elements(family, TABLE, set)?.is_empty() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn push_elements<'a>(
    transaction: &mut Transaction<'a>,
    entries: &'a [Entry],
    comment: &str,
    claim: Claim,
) {
    for entry in entries {
        let element = vec![entry.element(comment)];
        // A value of another pod is refused either way.
        if claim == Claim::Again || is_hairpin_set(&entry.set) {
            transaction.add_elements(entry.family, TABLE, &entry.set, element);
        } else {
            transaction.claim_elements(entry.family, TABLE, &entry.set, element);
        }
    }
}

fn delete(
    socket: &mut NftSocket,
    family: Family,
    (table, set): (&str, &str),
    found: Vec<StoredElement>,
) -> Result<(), NetlinkError> {
    let elements = found.into_iter().map(|element| Element {
        key: element.key,
        data: Vec::new(),
        comment: String::new(),
    });
    let mut transaction = Transaction::new();
    transaction.delete_elements(family, table, set, elements.collect());
    match transaction.commit(socket) {
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
        done => done,
    }
}

/// Says which port is taken, and by whom.
fn conflict(socket: &mut NftSocket, plan: &Elements, error: &NetlinkError) -> PluginError {
    let ports = plan
        .entries
        .iter()
        .filter(|entry| !is_hairpin_set(&entry.set));
    for entry in ports {
        let found = socket
            .elements(
                entry.family,
                TABLE,
                &entry.set,
                std::slice::from_ref(&entry.key),
            )
            .unwrap_or_default();
        if let Some(owner) = found.first() {
            let owner = owner.comment.as_deref().unwrap_or("something unknown");
            let message = format!("{} is taken by {owner}", entry.label);
            return PluginError::reported(NAME, error_code::FAILED, message);
        }
    }
    failed(error)
}
