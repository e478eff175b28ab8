//! The container's view of files: mounts, devices, masks and the change of root.

pub(crate) mod copy_up;
pub(crate) mod devices;
pub(crate) mod masks;
pub(crate) mod mounts;
pub(crate) mod private_proc;
pub(crate) mod root_switch;
