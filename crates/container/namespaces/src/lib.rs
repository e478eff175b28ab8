//! Namespaces of pods: made in a thread that is thrown away, and kept by bind mounts of their files.
//!
//! The pins are where CRI-O puts them, `<dir>/{net,ipc,uts,user,pid}ns/<name>`, so either daemon finds the other's.
//! A thread may change its own network, IPC and UTS namespaces (clone(2), unshare(2)); the threads of a pool never
//! do, because one that failed to come back would carry somebody else's work into a pod.
#![forbid(unsafe_code)]

mod create;
mod error;
mod pin;
mod sysctl;
mod user;

pub use create::{NamespaceRequest, PinnedNamespaces, create_pinned};
pub use error::NamespaceError;
pub use pin::{Kind, pin_existing, pin_path, remove_pin, remove_pinned};
pub use user::{IdMaps, IdRange, create_pinned_with_users, run_helper};
