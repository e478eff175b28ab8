//! The engine's operations on a fake host: no root, no clock, every failure on demand.

#![expect(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod checkpoints;
mod host;
mod processes;
mod records;
mod requests;

mod creation;
mod events;
mod exits;
mod restore;
mod stop;
