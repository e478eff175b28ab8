//! Mounts of the configuration: their options, the sources opened on the host, and attaching them inside the root.

pub(crate) mod attach;
pub(crate) mod cgroup;
pub(crate) mod filesystem;
pub(crate) mod options;
pub(crate) mod source;
