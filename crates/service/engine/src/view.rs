//! CRI's view of what exists: statuses, list items, filters, usage.

mod container;
mod entry;
mod filter;
mod inspect;
mod metrics;
mod pod;
mod stats;

pub use metrics::MetricGroup;

pub(crate) use container::{status as container_status, status_in as container_status_in};
pub(crate) use entry::{ContainerEntry, PodEntry};
pub(crate) use pod::status as pod_status;
pub(crate) use stats::{container_target, pod_target};
