//! What the runtime is told to run: OCI specs as pure functions of requests, images and facts about the node.
//!
//! Nothing here reads a file or asks the kernel. The callers look things up (users, devices, mount propagation) through
//! descriptors they trust and pass the facts in, which also makes every rule testable without root.
//!
//! [`container_spec`] and [`sandbox_spec`] put the parts together; the modules are the rules they follow:
//!
//! ```
//! use crioxide_runtime_spec::{devices, stop_signal};
//!
//! let fuse = devices::parse("/dev/fuse:rw")?;
//! assert_eq!((fuse.container_path.to_str(), fuse.access.as_str()), (Some("/dev/fuse"), "rw"));
//! assert_eq!(stop_signal::parse("SIGRTMIN+3"), Some(37));
//! # Ok::<(), devices::ParseDeviceError>(())
//! ```
#![forbid(unsafe_code)]

mod cgroup;
mod confinement;
pub mod container;
pub mod devices;
pub mod hooks;
pub mod image_facts;
pub mod mounts;
pub mod namespaces;
mod pod;
mod process;
pub mod request;
pub mod sandbox;
pub mod spec_error;
pub mod user;

pub use cgroup::{cgroups_path, resources, unified};
pub use confinement::{apparmor, masked_paths, seccomp, selinux};
pub use container::{SpecOutput, container_spec};
pub use image_facts::ImageFacts;
pub use namespaces::user_namespace;
pub use pod::{annotation_filter, files, hostname, labels, log_path, port_mappings, sysctls};
pub use process::{OCI_VERSION, capabilities, command, environment, rlimits, stop_signal};
pub use request::{
    Confinement, ContainerSpecRequest, Devices, HostFacts, SandboxSpecRequest, SpecDefaults,
};
pub use sandbox::sandbox_spec;
pub use spec_error::SpecError;
pub use user::ResolvedUser;
