//! What tests on a real node share: a CRI client, nodes on private directories, registries and images made on the
//! spot, and a picture of the host to compare before and after.
//!
//! Everything made here is private to its test (directories, bridge, subnet, cgroup, ports), so tests run in parallel,
//! and is taken away on drop even if the test failed. Waits are for conditions, with a bound; nothing sleeps to
//! synchronise. A test that lacks something says so with [`skip_unless!`] and returns.
#![forbid(unsafe_code)]

pub mod client;
pub mod image;
pub mod node;
pub mod registry;
pub mod requirements;
pub mod scripted_registry;
pub mod snapshot;
pub mod streams;
pub mod waiting;

pub use client::CriClient;
pub use node::{NodeOptions, TestNode};
pub use registry::TestRegistry;
pub use scripted_registry::ScriptedRegistry;
pub use snapshot::HostSnapshot;
