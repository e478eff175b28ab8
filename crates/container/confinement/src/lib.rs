//! What confines a container's process beside its namespaces: seccomp filters and capabilities.
//!
//! [`seccomp`] turns the profile of an OCI `config.json` into the kernel's BPF, without libseccomp;
//! [`capabilities`] turns capability names into sets and applies them in the order the kernel needs.

#![forbid(unsafe_code)]

pub mod capabilities;
pub mod seccomp;
