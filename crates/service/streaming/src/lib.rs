//! The streaming server: exec, attach and port-forward for clients that were given an address by the CRI.
//!
//! A client comes with a token, agrees on a protocol (SPDY/3.1 or WebSocket, see [`spdy`]) and gets a session of the
//! engine. Everything of one session runs in one task and is gone when that ends: the client's connection, the
//! process's pipes, and by the session's own drop the process. Nothing is collected: bytes are read when there is room
//! for them at the other side, so a session needs the same memory however much passes through it.
#![forbid(unsafe_code)]

mod command;
mod detach;
mod forward;
mod handshake;
mod resize;
mod server;
mod socket;
pub mod spdy;
mod status;
mod target;
mod tls;
mod tokens;
mod transport;
mod websocket;

pub use server::{StreamRefusal, StreamServer, StreamSettings, Streaming};
pub use target::Target;
pub use tls::{Tls, TlsError, TlsSettings};
