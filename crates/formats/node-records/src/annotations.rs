//! The annotations in `config.json` from which pods and containers are restored.
//!
//! Two typed views, [`SandboxAnnotations`] and [`ContainerAnnotations`], turn into the flat string map of the OCI spec
//! and back. The values inside are JSON texts with Go's field names, described in [`values`].

pub mod container;
mod from_cri;
pub mod keys;
mod map;
pub mod sandbox;
pub mod values;

pub use container::ContainerAnnotations;
pub use map::ParseAnnotationsError;
pub use sandbox::SandboxAnnotations;

#[cfg(test)]
mod tests;
