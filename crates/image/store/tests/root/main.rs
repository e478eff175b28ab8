//! Tests that need root: real overlay mounts, devices and owners, and other tools on the same store.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a test may unwrap: the panic is its report"
)]

mod containers;
mod crash;
mod forms;
mod images;
mod interop;
mod support;
