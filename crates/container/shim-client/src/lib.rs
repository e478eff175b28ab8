//! The client of a containerd shim v2, as virtual machine runtimes such as kata bring one.
//!
//! A shim is a program that is run with `start` in a container's bundle and answers with the address of a socket, where
//! it serves the task service over ttrpc: framed protobuf messages. One shim may serve all containers of a pod. The
//! rules are those of containerd's `runtime/v2/README.md` and ttrpc's `PROTOCOL.md`.
//!
//! This crate knows the messages, the framing and the addresses. Who runs the program, and where the containers' output
//! goes, is its user's business.

#![forbid(unsafe_code)]

mod address;
mod bootstrap;
mod connection;
mod error;
pub mod events;
pub mod frame;
pub mod messages;
pub mod metrics;
mod shim;

pub use address::Address;
pub use bootstrap::{Action, Bootstrap, Invocation, Version, wants_parameters};
pub use error::ShimError;
pub use shim::{NewExec, NewTask, Shim, TaskExit, TaskState, TaskStdio};
