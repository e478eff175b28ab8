//! Plugins that make or move an interface into the pod.

pub(crate) mod bridge;
pub(crate) mod child_link;
pub(crate) mod host_device;
pub(crate) mod loopback;
pub(crate) mod pod_side;
pub(crate) mod ptp;
pub(crate) mod spares;
