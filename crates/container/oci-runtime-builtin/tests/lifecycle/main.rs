//! The built-in runtime on real containers. Needs root and a static busybox.

mod basics;
mod bundles;
mod errors;
mod execs;
mod hostile_images;
mod isolation;
