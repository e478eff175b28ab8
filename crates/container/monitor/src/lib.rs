//! The monitor: what stays with a pod's containers while the daemon comes and goes.
//!
//! One process per pod, one thread, one poll loop. It owns the pipes, pseudo terminals, CRI logs, attach sockets, exit
//! records and out-of-memory marks of every container of its pod, and is the parent that reaps them. Files and sockets
//! are conmon's, so CRI-O can take over a node (and the other way round).
//!
//! The daemon never forks itself. It starts one [`spawner`], a tiny process, which forks the monitors; they share its
//! memory copy-on-write. To make a container the monitor forks a short-lived child, which runs the built-in runtime's
//! `create` or executes runc's.

#![forbid(unsafe_code)]

mod children;
mod clients;
mod container;
mod control;
mod event_loop;
mod exit;
mod kept;
mod monitor;
mod runtime;
mod serve;
mod socket;
pub mod spawner;
mod streams;
mod watcher;

pub use monitor::{StartMonitorError, run_monitor};
