//! Looking after a store: what it takes, what is damaged, what can go.

pub(crate) mod check;
pub(crate) mod garbage;
pub(crate) mod usage;
