//! System calls that rustix does not wrap, as safe functions over std and rustix types.
//!
//! The only crate of the workspace with `unsafe`. Where rustix has a safe function (pidfd, waitid,
//! setns, capabilities, the file descriptor based mount API, prctl) callers use rustix directly and
//! nothing is wrapped here a second time. Each module holds one idea; no module knows what a
//! container is.

#![allow(
    unsafe_code,
    reason = "this crate is where the unsafe of the workspace is kept"
)]
#![deny(unsafe_op_in_unsafe_fn)]
#![deny(missing_docs)]

pub mod allocator;
pub mod bpf;
pub mod descriptors;
pub mod ethtool;
mod ioctl;
pub mod local_time;
pub mod locks;
pub mod messages;
pub mod mount_attributes;
mod process;
pub mod program_pages;
pub mod seccomp;
mod storage;
mod syscall;

pub use process::{
    clone, exec, fork, keyring, namespaces, reap, scheduling, signals, working_directory,
};
pub use storage::{block_device, btrfs, device_mapper, project_quota};
