//! Typed rtnetlink and nftables sockets: what a pod network needs of the kernel, without any
//! helper program.
//!
//! Everything is synchronous: the kernel answers netlink requests before `send` returns, so there
//! is never anything to wait for. Several changes travel in one message (see [`LinkRequests`]), and
//! every nftables change is one transaction ([`nft::Transaction`]) that happens as a whole or not
//! at all.
//!
//! This crate knows links, addresses, routes and rules, but not pods or CNI.

#![forbid(unsafe_code)]

mod bridge_port;
pub mod conntrack;
pub mod counters;
mod duplicates;
mod link;
mod mac;
mod message;
mod netns;
mod new_link;
pub mod nft;
mod query;
mod request;
mod shaping;
mod socket;

pub use bridge_port::VlanRole;
pub use duplicates::Detection;
pub use link::{Link, VethSpec};
pub use mac::{MacAddress, ParseMacError};
pub use netns::{Netns, NetnsError};
pub use new_link::{IpVlanMode, LinkKind, LinkSpec, MacVlanMode, SourceRule};
pub use query::RouteAnswer;
pub use request::{LinkRequests, RouteSpec};
pub use shaping::{QueueAnswer, Rate};
pub use socket::{NetlinkError, RouteSocket};
