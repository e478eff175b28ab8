//! Channels over a WebSocket: the first byte of a message names the channel.
//!
//! The `base64` protocols write channel and content as text, `v5` can end a single channel, and a tunnel carries a whole
//! SPDY connection in the messages' contents.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink as _, SinkExt as _, Stream as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::socket::{Activity, Socket};
use crate::transport::{DATA_QUEUE, Incoming, Outgoing, Sender};

/// Largest message, as Go's library has it for CRI-O.
const LARGEST_MESSAGE: usize = 32 << 20;

/// Most bytes handed on at once.
const PIECE: usize = 32 << 10;

/// First byte of a message that ends the channel in its second.
const END_SIGNAL: u8 = 255;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Coding {
    /// Channels as digits, content in base64.
    pub(crate) base64: bool,
    /// A channel can be ended alone.
    pub(crate) end_signal: bool,
}

/// The receiving side.
#[derive(Debug)]
pub(crate) struct Reader {
    messages: SplitStream<WebSocketStream<Socket>>,
    coding: Coding,
    /// What is left of a large message.
    rest: Option<(u32, Bytes)>,
    activity: Activity,
}

async fn accept(socket: Socket) -> WebSocketStream<Socket> {
    let config = WebSocketConfig::default()
        .read_buffer_size(PIECE)
        .write_buffer_size(0)
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE));
    WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await
}

/// Takes a connection over: what arrives, what is sent, and the work of sending.
pub(crate) async fn split(
    socket: Socket,
    coding: Coding,
    activity: &Activity,
) -> (Reader, Sender, impl Future<Output = io::Result<()>> + use<>) {
    let (sink, messages) = accept(socket).await.split();
    let (data, queue) = mpsc::channel(DATA_QUEUE);
    let reader = Reader {
        messages,
        coding,
        rest: None,
        activity: activity.clone(),
    };
    let writing = write_messages(sink, coding, queue, activity.clone());
    (reader, Sender::new(data, None), writing)
}

impl Reader {
    /// What arrived next; `None` when there will be no more. May be cancelled.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        loop {
            if let Some((id, mut bytes)) = self.rest.take() {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                if !bytes.is_empty() {
                    self.rest = Some((id, bytes));
                }
                return Some(Incoming::Data {
                    id,
                    bytes: piece,
                    end: false,
                });
            }
            let payload = match self.messages.next().await? {
                Ok(Message::Binary(bytes)) => bytes,
                Ok(Message::Text(text)) => text.into(),
                Ok(Message::Close(_)) => return None,
                Ok(_) => {
                    self.activity.touch();
                    continue;
                }
                Err(error) => {
                    tracing::debug!("A streaming client's connection ended: {error}");
                    return None;
                }
            };
            self.activity.touch();
            match decode(self.coding, payload) {
                Some(Decoded::Data(id, bytes)) => self.rest = Some((id, bytes)),
                Some(Decoded::End(id)) => {
                    return Some(Incoming::Data {
                        id,
                        bytes: Bytes::new(),
                        end: true,
                    });
                }
                None => {}
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Decoded {
    Data(u32, Bytes),
    End(u32),
}

/// Channel and content of a message. What makes no sense is left out, as by CRI-O.
fn decode(coding: Coding, mut payload: Bytes) -> Option<Decoded> {
    let first = payload.try_get_u8().ok()?;
    if coding.end_signal && first == END_SIGNAL {
        return match payload[..] {
            [channel] => Some(Decoded::End(channel.into())),
            _ => None,
        };
    }
    if coding.base64 {
        let channel = first.checked_sub(b'0')?;
        let bytes = STANDARD.decode(&payload).ok()?;
        return Some(Decoded::Data(channel.into(), bytes.into()));
    }
    Some(Decoded::Data(first.into(), payload))
}

fn encode(coding: Coding, id: u32, bytes: &Bytes) -> Message {
    // There are never more channels than a byte holds.
    let channel = id as u8;
    if coding.base64 {
        let mut text = String::with_capacity(1 + bytes.len().div_ceil(3) * 4);
        text.push(char::from(b'0'.wrapping_add(channel)));
        STANDARD.encode_string(bytes, &mut text);
        return Message::Text(text.into());
    }
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    Message::Binary(message.freeze())
}

async fn write_messages(
    mut sink: SplitSink<WebSocketStream<Socket>, Message>,
    coding: Coding,
    mut queue: mpsc::Receiver<Outgoing>,
    activity: Activity,
) -> io::Result<()> {
    while let Some(outgoing) = queue.recv().await {
        let message = match outgoing {
            Outgoing::Data { id, bytes } => encode(coding, id, &bytes),
            Outgoing::Close => Message::Close(Some(CloseFrame {
                code: CloseCode::Normal,
                reason: "".into(),
            })),
            // Only the connection as a whole ends.
            Outgoing::End { .. } | Outgoing::Reset { .. } => continue,
        };
        sink.send(message).await.map_err(io::Error::other)?;
        activity.touch();
    }
    sink.close().await.map_err(io::Error::other)
}

/// A stream of bytes in the messages' contents.
pub(crate) struct Tunnel {
    messages: WebSocketStream<Socket>,
    rest: Bytes,
}

/// The connection inside a tunnel.
pub(crate) async fn tunnel(socket: Socket) -> Socket {
    let gone = socket.gone();
    let tunnel = Tunnel {
        messages: accept(socket).await,
        rest: Bytes::new(),
    };
    Socket::new(tunnel, gone)
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.messages).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                None | Some(Ok(Message::Close(_))) => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut messages = Pin::new(&mut self.messages);
        ready!(messages.as_mut().poll_ready(context)).map_err(io::Error::other)?;
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        messages.start_send(message).map_err(io::Error::other)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.messages)
            .poll_flush(context)
            .map_err(io::Error::other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.messages)
            .poll_close(context)
            .map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Coding = Coding {
        base64: false,
        end_signal: false,
    };
    const TEXT: Coding = Coding {
        base64: true,
        end_signal: false,
    };
    const V5: Coding = Coding {
        base64: false,
        end_signal: true,
    };

    fn read(coding: Coding, bytes: &'static [u8]) -> Option<Decoded> {
        decode(coding, Bytes::from_static(bytes))
    }

    #[test]
    fn both_codings() {
        let data = |id, bytes| Some(Decoded::Data(id, Bytes::from_static(bytes)));
        assert_eq!(read(PLAIN, b"\x00hello"), data(0, b"hello"));
        assert_eq!(read(PLAIN, b"\xff\x00"), data(255, b"\x00"));
        assert_eq!(read(V5, b"\xff\x00"), Some(Decoded::End(0)));
        assert_eq!(read(V5, b"\xff\x00\x01"), None);
        assert_eq!(read(TEXT, b"4aGVsbG8="), data(4, b"hello"));
        assert_eq!(read(TEXT, b"0not base64"), None);
        assert_eq!(read(PLAIN, b""), None);
        let hello = Bytes::from_static(b"hello");
        assert_eq!(encode(TEXT, 1, &hello), Message::Text("1aGVsbG8=".into()));
        assert_eq!(
            encode(PLAIN, 3, &hello),
            Message::Binary(Bytes::from_static(b"\x03hello"))
        );
    }
}
