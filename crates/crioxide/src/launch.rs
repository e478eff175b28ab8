//! From arguments, variables and files to what the daemon and the commands work with.

mod environment;
mod files;
mod host;
mod log;
mod process;
mod reload;
mod settings;
mod store;

pub(crate) use log::{start_log, start_plain_log};
pub(crate) use process::prepare_daemon_process;
pub(crate) use reload::ReloadSource;
pub(crate) use settings::{Settings, load_settings};
pub(crate) use store::open_store;
