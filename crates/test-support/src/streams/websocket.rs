//! A client that speaks WebSocket.

use anyhow::{Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::connection::{Connection, Io, Refused};

type Socket = WebSocketStream<Box<dyn Io>>;

/// Sends on channels.
#[derive(Debug)]
pub struct WebSocketWriter {
    sink: SplitSink<Socket, Message>,
    base64: bool,
}

/// Receives.
#[derive(Debug)]
pub struct WebSocketReader {
    stream: SplitStream<Socket>,
    base64: bool,
}

/// Agrees on a WebSocket of this protocol; an empty one asks for none.
///
/// # Errors
/// The server refuses (see [`super::Refused`]) or breaks off.
pub async fn open_websocket(
    connection: Connection,
    protocol: &str,
) -> Result<(WebSocketWriter, WebSocketReader)> {
    let url = format!("ws://{}{}", connection.host, connection.path);
    let mut request = url.into_client_request()?;
    if !protocol.is_empty() {
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", protocol.parse()?);
    }
    let (socket, response) = match tokio_tungstenite::client_async(request, connection.io).await {
        Ok(opened) => opened,
        Err(Error::Http(response)) => bail!(Refused {
            status: response.status().as_u16(),
            text: format!("{response:?}"),
        }),
        Err(error) => return Err(error.into()),
    };
    let chosen = response.headers().get("Sec-WebSocket-Protocol");
    let chosen = chosen.map_or("", |value| value.to_str().unwrap_or("?"));
    ensure!(chosen == protocol, "the server chose `{chosen}`");
    let (sink, stream) = socket.split();
    let base64 = protocol.contains("base64");
    Ok((
        WebSocketWriter { sink, base64 },
        WebSocketReader { stream, base64 },
    ))
}

impl WebSocketWriter {
    /// Sends data on a channel.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, channel: u8, bytes: &[u8]) -> Result<()> {
        let message = if self.base64 {
            let digit = char::from(b'0' + channel);
            Message::Text(format!("{digit}{}", STANDARD.encode(bytes)).into())
        } else {
            Message::Binary([&[channel], bytes].concat().into())
        };
        Ok(self.sink.send(message).await?)
    }

    /// Sends the message that ends a channel in version 5.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn end(&mut self, channel: u8) -> Result<()> {
        self.send(255, &[channel]).await
    }
}

impl WebSocketReader {
    /// The next channel and content; `None` when the server closed the connection in order.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<(u8, Bytes)>> {
        loop {
            let message = match self.stream.next().await {
                Some(message) => message?,
                None => return Ok(None),
            };
            let payload: Bytes = match message {
                Message::Binary(bytes) if !self.base64 => bytes,
                Message::Text(text) if self.base64 => text.into(),
                Message::Binary(_) | Message::Text(_) => bail!("a message of the wrong kind"),
                Message::Close(_) => return Ok(None),
                _ => continue,
            };
            ensure!(!payload.is_empty(), "a message without a channel");
            let (channel, content) = (payload[0], payload.slice(1..));
            return Ok(Some(if self.base64 {
                (channel - b'0', STANDARD.decode(content)?.into())
            } else {
                (channel, content)
            }));
        }
    }
}
