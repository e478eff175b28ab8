//! The state of processes as criu writes it, fitted to the container that it is to be restored into.
//!
//! criu restores with the rights of root whatever its images say: users, capabilities, mounts, cgroups, namespaces,
//! devices. Images from elsewhere may therefore say nothing of that themselves. [`fit()`] takes what the new container's
//! OCI specification decides from there (seccomp, cgroup, LSM profile, limits, mount flags), checks what processes
//! legitimately have of their own (users, capabilities, mounts) against it, and refuses what would be more. What it does
//! not know it refuses too.
#![forbid(unsafe_code)]

mod creds;
mod descriptors;
mod error;
mod files;
mod fit;
mod image;
mod mounts;
mod names;
mod namespaces;
mod seccomp;
mod tasks;
mod tmpfs;
mod wire;

pub use error::{FitError, Refusal};
pub use fit::{Wanted, fit};
pub use mounts::{FileOwner, Host};
