//! Checkpoints of containers, and containers restored from them.

mod restore;
mod take;
