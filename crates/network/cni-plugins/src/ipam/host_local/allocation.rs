//! Choosing the next free address.

use std::collections::HashSet;
use std::net::IpAddr;

use crioxide_cni::IpConfig;
use ipnet::IpNet;

use super::ranges::{Range, RangeSet, address, number};
use super::store::{Owner, Store, StoreError};

/// Taken addresses that are tried before all names are read at once.
const TRIES_BEFORE_LISTING: u32 = 8;

/// No address could be reserved.
#[derive(Debug, thiserror::Error)]
pub(super) enum AllocateError {
    /// All are taken.
    #[error("no IP addresses available in range set: {ranges}")]
    Exhausted { ranges: String },
    /// The requested one is taken or the gateway's.
    #[error("requested IP address {address} is not available in range set {ranges}")]
    NotAvailable { address: IpAddr, ranges: String },
    /// The records could not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reserves the requested address, or the next free one behind the last reserved.
pub(super) fn allocate(
    store: &Store,
    owner: &Owner<'_>,
    ranges: &RangeSet,
    set_number: usize,
    requested: Option<IpAddr>,
) -> Result<IpConfig, AllocateError> {
    if let Some(wanted) = requested {
        let range = ranges
            .0
            .iter()
            .find(|range| range.contains(wanted) && range.gateway != wanted);
        return match range {
            Some(range) if store.reserve(wanted, owner, set_number)? => {
                Ok(configuration(range, wanted))
            }
            _ => Err(AllocateError::NotAvailable {
                address: wanted,
                ranges: describe(ranges),
            }),
        };
    }
    let last = store.last_reserved(set_number)?;
    let mut taken: Option<HashSet<IpAddr>> = None;
    let mut tries = 0;
    for (range, candidate) in candidates(ranges, last) {
        if taken
            .as_ref()
            .is_some_and(|taken| taken.contains(&candidate))
        {
            continue;
        }
        if store.reserve(candidate, owner, set_number)? {
            return Ok(configuration(range, candidate));
        }
        tries += 1;
        if tries == TRIES_BEFORE_LISTING {
            taken = Some(store.taken()?);
        }
    }
    Err(AllocateError::Exhausted {
        ranges: describe(ranges),
    })
}

/// Every address of the set once, beginning behind `last`, without gateways.
fn candidates(ranges: &RangeSet, last: Option<IpAddr>) -> impl Iterator<Item = (&Range, IpAddr)> {
    let begin = last.and_then(|last| {
        Some((
            ranges.0.iter().position(|range| range.contains(last))?,
            number(last),
        ))
    });
    let (first_range, from) = match begin {
        Some((at, last)) => (at, last + 1),
        None => (0, number(ranges.0[0].start)),
    };
    let count = ranges.0.len();
    let rest = (0..=count).map(move |step| {
        let range = &ranges.0[(first_range + step) % count];
        let (start, end) = (number(range.start), number(range.end));
        // The first range is visited twice: its tail first, its head at the very end.
        match step {
            0 => (range, from, end + 1),
            step if step == count => (range, start, from.min(end + 1)),
            _ => (range, start, end + 1),
        }
    });
    rest.flat_map(|(range, start, end)| {
        (start..end).map(move |number| (range, address(number, range.start)))
    })
    .filter(|(range, candidate)| *candidate != range.gateway)
}

fn configuration(range: &Range, given: IpAddr) -> IpConfig {
    let address = IpNet::new(given, range.subnet.prefix_len())
        .expect("the prefix length is that of a subnet of the same family");
    IpConfig {
        address,
        gateway: Some(range.gateway),
        interface: None,
    }
}

fn describe(ranges: &RangeSet) -> String {
    let parts: Vec<_> = ranges
        .0
        .iter()
        .map(|range| format!("{}-{}", range.start, range.end))
        .collect();
    parts.join(",")
}

#[cfg(test)]
mod tests;
