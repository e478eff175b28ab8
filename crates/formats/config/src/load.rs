//! From texts to the resolved configuration: parse, merge, override, finish.

pub(crate) mod finish;
pub(crate) mod merge;
pub(crate) mod overrides;
pub(crate) mod raw;
pub(crate) mod resolve;
mod runtimes_flag;
