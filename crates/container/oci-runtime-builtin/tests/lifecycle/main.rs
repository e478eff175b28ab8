//! The built-in runtime on real containers. Needs root and a static busybox.

#![allow(
    clippy::unwrap_used,
    reason = "a test may unwrap: the panic is its report"
)]

mod basics;
mod bundles;
mod errors;
mod execs;
mod hostile_images;
mod isolation;
