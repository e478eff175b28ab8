//! A process of the container: its namespaces, identity, terminal, program and end.

pub(crate) mod affinity;
pub(crate) mod command;
pub(crate) mod console;
pub(crate) mod end;
pub(crate) mod filter_agent;
pub(crate) mod id_mapping;
pub(crate) mod identity;
pub(crate) mod namespaces;
pub(crate) mod setup;
