//! The operations, one file each.

pub(crate) mod undo;

mod accounts;
mod checkpoint;
mod create_container;
mod exec;
mod exits;
mod pause_container;
mod remove;
mod restore;
mod run_pod;
mod sessions;
mod start_container;
mod stop_container;
mod stop_pod;
mod update_container;

pub(crate) use exits::{HeldCalls, now_nanoseconds};
pub(crate) use stop_container::stop_signal;

pub use exec::ExecSyncOutput;
pub use restore::Restored;
