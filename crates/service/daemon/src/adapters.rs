//! The engine's ports on the real host.

pub(crate) mod backend;
pub(crate) mod checkpoints;
pub(crate) mod host;
pub(crate) mod images;
pub(crate) mod namespaced_auth;
pub(crate) mod network;
mod pull_counts;
pub(crate) mod records;
pub(crate) mod spares;
pub(crate) mod stats;
