//! Packet rules, and what plugins change them with.

pub(crate) mod iptables;
pub(crate) mod masquerade;
pub(crate) mod owner;
pub(crate) mod sockets;
