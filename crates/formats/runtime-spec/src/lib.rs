//! What the runtime is told to run: OCI specs as pure functions of requests, images and facts about the node.
//!
//! Nothing here reads a file or asks the kernel. The callers look things up (users, devices, mount propagation) through
//! descriptors they trust and pass the facts in, which also makes every rule testable without root.
#![forbid(unsafe_code)]

pub mod annotation_filter;
pub mod apparmor;
pub mod capabilities;
pub mod cgroups_path;
pub mod command;
pub mod container;
pub mod devices;
pub mod environment;
pub mod files;
pub mod hostname;
pub mod image_facts;
pub mod labels;
pub mod log_path;
pub mod masked_paths;
pub mod mounts;
pub mod namespaces;
pub mod port_mappings;
mod process;
pub mod request;
pub mod resources;
pub mod rlimits;
pub mod sandbox;
pub mod seccomp;
pub mod selinux;
pub mod spec_error;
pub mod stop_signal;
pub mod sysctls;
pub mod unified;
pub mod user;
pub mod user_namespace;

pub use container::{SpecOutput, container_spec};
pub use image_facts::ImageFacts;
pub use process::OCI_VERSION;
pub use request::{
    Confinement, ContainerSpecRequest, Devices, HostFacts, SandboxSpecRequest, SpecDefaults,
};
pub use sandbox::sandbox_spec;
pub use spec_error::SpecError;
pub use user::ResolvedUser;
