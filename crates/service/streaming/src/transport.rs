//! One connection with numbered channels, whatever carries it: streams of SPDY, channels of a WebSocket.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::socket::{Activity, Gone, Socket};
use crate::spdy::{self, Control, Headers};
use crate::websocket::{self, Coding};

/// Data that waits to be written, in pieces of at most 32 KiB each: enough to keep the writer busy.
pub(crate) const DATA_QUEUE: usize = 2;

/// Answers that wait to be written. A client that provokes more without reading any is cut off.
pub(crate) const CONTROL_QUEUE: usize = 256;

/// What arrives.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// The client opened a channel (SPDY only). It waits for [`Sender::accept`] or [`Sender::reset`].
    Opened {
        id: u32,
        headers: Headers,
        end: bool,
    },
    /// Data, maybe the channel's last.
    Data { id: u32, bytes: Bytes, end: bool },
    /// The client gave the channel up.
    Reset { id: u32 },
}

/// What is sent.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Data {
        id: u32,
        bytes: Bytes,
    },
    End {
        id: u32,
    },
    Reset {
        id: u32,
    },
    /// The server is done with all of it.
    Close,
}

/// The client cannot be reached any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub(crate) struct ClientGone;

/// Sends. Clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    data: mpsc::Sender<Outgoing>,
    spdy: Option<(mpsc::Sender<Control>, Arc<spdy::Windows>)>,
}

impl Sender {
    pub(crate) fn new(
        data: mpsc::Sender<Outgoing>,
        spdy: Option<(mpsc::Sender<Control>, Arc<spdy::Windows>)>,
    ) -> Self {
        Self { data, spdy }
    }

    async fn put(&self, outgoing: Outgoing) -> Result<(), ClientGone> {
        self.data.send(outgoing).await.map_err(|_| ClientGone)
    }

    /// Sends data, as fast as the client takes it.
    pub(crate) async fn data(&self, id: u32, mut bytes: Bytes) -> Result<(), ClientGone> {
        loop {
            let count = match &self.spdy {
                Some((_, windows)) => windows.take(id, bytes.len()).await,
                None => bytes.len(),
            };
            let bytes_now = bytes.split_to(count);
            self.put(Outgoing::Data {
                id,
                bytes: bytes_now,
            })
            .await?;
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Ends our side of a channel.
    pub(crate) async fn end(&self, id: u32) -> Result<(), ClientGone> {
        self.put(Outgoing::End { id }).await
    }

    /// Ends a channel at once in both directions.
    pub(crate) async fn reset(&self, id: u32) -> Result<(), ClientGone> {
        if let Some((_, windows)) = &self.spdy {
            windows.close(id);
        }
        self.put(Outgoing::Reset { id }).await
    }

    /// Whether single channels cannot be ended, only the connection.
    pub(crate) fn ends_as_a_whole(&self) -> bool {
        self.spdy.is_none()
    }

    /// Says that nothing will follow on any channel.
    pub(crate) async fn close(&self) -> Result<(), ClientGone> {
        self.put(Outgoing::Close).await
    }

    /// Takes a channel that the client opened. `None` when the client is not to be served any more.
    pub(crate) fn accept(&self, id: u32) -> Option<()> {
        self.control(Control::Reply { stream: id })
    }

    pub(crate) fn control(&self, control: Control) -> Option<()> {
        match &self.spdy {
            Some((queue, _)) => queue.try_send(control).ok(),
            None => Some(()),
        }
    }

    /// Lets the client send more, as this much has been passed on.
    pub(crate) fn taken(&self, id: u32, count: usize) {
        let Some((queue, windows)) = &self.spdy else {
            return;
        };
        for (stream, more) in windows.taken(id, count) {
            // With a full queue the client is about to be cut off.
            let _ = queue.try_send(Control::Window { stream, more });
        }
    }
}

/// Receives.
#[derive(Debug)]
pub(crate) enum Receiver {
    Spdy(Box<spdy::Reader>),
    WebSocket(Box<websocket::Reader>),
}

impl Receiver {
    /// What arrived next; `None` when the client is gone. May be cancelled.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        match self {
            Self::Spdy(reader) => reader.next().await,
            Self::WebSocket(reader) => reader.next().await,
        }
    }

    /// Nothing more is expected of a channel.
    pub(crate) fn forget(&mut self, id: u32) {
        if let Self::Spdy(reader) = self {
            reader.forget(id);
        }
    }
}

/// A connection in use.
pub(crate) struct Transport {
    pub(crate) receiver: Receiver,
    pub(crate) sender: Sender,
    /// Resolves when the client's end of the connection is closed, read or not.
    pub(crate) gone: Gone,
}

/// The work of sending, to be polled beside everything else.
pub(crate) type Writing = std::pin::Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl Transport {
    pub(crate) fn spdy(socket: Socket, activity: &Activity) -> (Self, Writing) {
        let gone = socket.gone();
        let (reader, sender, writing) = spdy::split(socket, activity);
        let receiver = Receiver::Spdy(Box::new(reader));
        let transport = Self {
            receiver,
            sender,
            gone,
        };
        (transport, Box::pin(writing))
    }

    pub(crate) async fn websocket(
        socket: Socket,
        coding: Coding,
        activity: &Activity,
    ) -> (Self, Writing) {
        let gone = socket.gone();
        let (reader, sender, writing) = websocket::split(socket, coding, activity).await;
        let receiver = Receiver::WebSocket(Box::new(reader));
        let transport = Self {
            receiver,
            sender,
            gone,
        };
        (transport, Box::pin(writing))
    }
}
