//! Clients of the streaming server: one that speaks SPDY, one that speaks WebSocket, and what both look like for exec and
//! attach.

mod command;
mod connection;
mod spdy;
mod websocket;

pub use command::{Command, CommandReader, CommandWriter, Finished, Wanted};
pub use connection::{Connection, Identity, Refused, connect};
pub use spdy::{SpdyReader, SpdyWriter, open_spdy};
pub use websocket::{WebSocketReader, WebSocketWriter, open_websocket};
