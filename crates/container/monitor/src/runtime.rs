//! Running an OCI runtime: the short-lived children that create containers and exec in them.

pub(crate) mod builtin;
pub(crate) mod child;
pub(crate) mod create;
pub(crate) mod exec;
