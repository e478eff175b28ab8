//! The built-in OCI runtime: what runc does, as a library and a command line.
//!
//! [`create()`] is called in a short-lived, single-threaded child of the monitor. It reads the bundle, makes the cgroup,
//! opens everything the container gets from the host and gives birth to the container's first process, which sets up
//! its own mounts, root and identity and then waits. All other operations ([`BuiltinRuntime`]) work from any
//! process by the state kept in `<root>/<id>`.
//!
//! Rules the whole crate keeps:
//! - paths of the container are only ever looked up inside its root, by descriptor; mounts are attached by descriptor;
//! - what comes from the host is opened before the container's process exists, and nothing of the container is run
//!   or trusted before its own program;
//! - `/proc` is written through a procfs of our own that no mount can cover.
//!
//! Needs Linux 5.12 or newer (`mount_setattr`, `openat2`, `clone3`).

#![forbid(unsafe_code)]

mod bundle;
pub mod cli;
mod create;
mod criu;
mod exec;
mod features;
mod hooks;
mod init;
mod process;
mod record;
mod rootfs;
mod runtime;
mod setup_error;
mod sync;

pub use bundle::BundleError;
pub use create::{CreateError, CreateRequest, Created, InitParent, SessionKeyring, create};
pub use criu::restore::{RestoreError, RestoreRequest, prepare_root, restore};
pub use exec::{ExecError, ExecRequest, Executed, exec};
pub use hooks::HookError;
pub use process::command::CommandError;
pub use record::{OCI_VERSION, RecordError};
pub use rootfs::root_switch::RootSwitch;
pub use runtime::BuiltinRuntime;
pub use setup_error::SetupError;
