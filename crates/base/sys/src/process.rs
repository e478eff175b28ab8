//! Processes: how they are born, what they are allowed and how they end.

pub mod clone;
pub mod exec;
pub mod fork;
pub mod keyring;
pub mod namespaces;
pub mod reap;
pub mod scheduling;
pub mod signals;
pub mod working_directory;
