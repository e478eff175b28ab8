//! Real pods' networks: every test has a host of its own, a fresh network namespace with its own
//! directories, so that the machine stays as it was and tests run side by side.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "a test may unwrap: the panic is its report"
)]

mod bridge_keys;
mod chains;
mod contract;
mod faults;
mod fixture;
mod iptables;
mod links;
mod parallel;
mod ports;
mod providers;
mod routed;
mod spares;
