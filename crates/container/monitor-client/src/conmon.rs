//! The real conmon, driven exactly as CRI-O drives it.
//!
//! A conmon belongs to one container. The spawner starts it; from then on it is reached by files only: its FIFOs, its
//! attach socket, its pid file and the exit files it writes. So the containers of a CRI-O that was here before are no
//! different from those made by us.

mod arguments;
mod control;
mod create;
mod orphan;
mod process;

use std::path::PathBuf;

pub use control::{ControlError, reopen_log, resize};
pub use create::{ConmonError, MadeByConmon};
pub use process::{Conmon, find};

/// A conmon program with its settings, for one runtime handler.
#[derive(Debug, Clone)]
pub struct ConmonProgram {
    /// The program.
    pub path: PathBuf,
    /// `monitor_env`, as `KEY=value`.
    pub env: Vec<String>,
    /// How much it tells the system log: `error`, `warning`, `info`, `debug` or `trace`.
    pub log_level: String,
    /// `log_to_journald`: the log goes to the journal as well.
    pub journald: bool,
}
