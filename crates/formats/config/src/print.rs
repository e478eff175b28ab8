//! The configuration as text again.

pub(crate) mod encode;
pub(crate) mod template;
