//! nftables by netlink: tables, chains, rules, sets and their elements, changed in transactions.
//!
//! Only what a pod network needs is here. Objects are described in the kernel's terms; `nft list
//! ruleset` shows them as anybody else's.

mod element;
mod expression;
mod monitor;
mod object;
mod socket;
mod transaction;

pub use element::{Element, StoredElement};
pub use expression::{Comparison, Expression, Register};
pub use monitor::NftMonitor;
pub use object::{BaseChain, ChainKind, DataType, Family, Hook, SetSpec};
pub use socket::{NftSocket, StoredRule};
pub use transaction::Transaction;

/// Subsystem number of nftables in nfnetlink message types.
const SUBSYSTEM: u16 = 10;
/// One entry of a list of nested attributes.
const LIST_ELEMENT: u16 = 1;
/// The bytes of a data attribute.
const DATA_VALUE: u16 = 1;

fn message_kind(message: u16) -> u16 {
    (SUBSYSTEM << 8) | message
}
