//! Pulls into a real store, from a registry that lies, breaks off and hangs as told, and from a real one.
#![expect(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod auth;
mod chunked;
mod debian_registry;
mod encrypted;
mod faults;
mod files;
mod fixture;
mod formats;
mod good;
mod image;
mod server;
mod survival;
mod trust;
