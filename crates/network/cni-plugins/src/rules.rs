//! Packet rules, and what plugins change them with.

mod backend;
pub(crate) mod iptables;
pub(crate) mod masquerade;
pub(crate) mod owner;
pub(crate) mod packets;
pub(crate) mod sockets;
pub(crate) mod spoof_check;

use crioxide_netlink::NetlinkError;

pub(crate) use backend::{Backend, PacketRules};
use iptables::IptablesError;

/// Packet rules could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RulesError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Iptables(#[from] IptablesError),
}
