//! What outlives what: pods the daemon, records a kill, the host all of them.

mod chaos;
mod cleanup;
pub(crate) mod kill;
mod leaks;
mod power;
mod probes;
mod recorded;
pub(crate) mod restart;
pub(crate) mod service;
mod stuck;
mod takeover;
