//! CRI's view of what exists: statuses, list items, filters, usage.

mod container;
mod filter;
mod pod;
mod stats;
