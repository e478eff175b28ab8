//! SPDY/3.1 as Kubernetes uses it: streams over one connection, opened by the client.
//!
//! Frames and header blocks are both sides'; the connection is the server's. About flow control: clients written in Go
//! neither count windows nor send updates, and a server that kept to the initial 64 KiB would stop for ever. So the
//! transport's own back-pressure is what bounds, until the other side shows that it keeps windows (by an update, or by
//! the setting of the initial one); from then on its windows are obeyed. Updates are always sent.

mod connection;
mod dictionary;
mod frame;
mod headers;
mod windows;

pub(crate) use connection::{Reader, split};
pub use frame::{Control, FrameReader, Received, ResetReason, data_header};
pub use headers::{Deflater, Headers, Inflater, value};
pub(crate) use windows::Windows;
