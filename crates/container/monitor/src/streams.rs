//! A container's standard streams: its pipes and terminal, its log, and who is attached.

pub(crate) mod attach;
pub(crate) mod log;
pub(crate) mod stdio;
