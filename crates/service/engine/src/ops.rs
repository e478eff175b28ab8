//! The operations, one file each.

mod accounts;
mod create_container;
mod exec;
mod exits;
mod remove;
mod restore;
mod run_pod;
mod sessions;
mod start_container;
mod stop_container;
mod stop_pod;
mod update_container;

pub use exec::ExecSyncOutput;
pub(crate) use exits::now_nanoseconds as exits_now;
pub use restore::Restored;
