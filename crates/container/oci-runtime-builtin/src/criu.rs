//! Checkpoint and restore, by criu.

pub(crate) mod dump;
pub(crate) mod restore;
