//! Typed rtnetlink and nftables sockets.
