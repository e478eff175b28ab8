//! The daemon as a whole, by its CRI socket. Each test has a node of its own; see `crioxide_test_support`.
#![forbid(unsafe_code)]

mod bad_input;
mod handlers;
mod images;
mod interop;
mod lifecycle;
mod logs;
mod network;
mod resources;
mod scene;
mod security;
mod smoke;
mod streaming;
mod survival;
mod variants;
