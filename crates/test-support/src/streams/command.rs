//! Exec and attach sessions by either transport.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde_json::json;

use super::connection::Connection;
use super::spdy::{SpdyReader, SpdyWriter, next_data, open_spdy};
use super::websocket::{WebSocketReader, WebSocketWriter, open_websocket};

/// Which channels a session has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Input.
    pub stdin: bool,
    /// Error output beside the output.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

/// A session.
#[derive(Debug)]
pub struct Command {
    /// Types.
    pub writer: CommandWriter,
    /// Reads.
    pub reader: CommandReader,
}

/// The typing half.
#[derive(Debug)]
pub enum CommandWriter {
    /// By SPDY, with the numbers of stdin and resize.
    Spdy(SpdyWriter, u32, u32),
    /// By WebSocket.
    WebSocket(WebSocketWriter),
}

/// The reading half.
#[derive(Debug)]
pub enum CommandReader {
    /// By SPDY, with the numbers of stdout, stderr and error.
    Spdy(Box<SpdyReader>, [u32; 3]),
    /// By WebSocket.
    WebSocket(WebSocketReader),
}

/// Everything that a session gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// Output.
    pub stdout: Vec<u8>,
    /// Error output.
    pub stderr: Vec<u8>,
    /// The error channel: a status object from version 4 on.
    pub error: String,
}

impl Finished {
    /// The exit code of a status object.
    ///
    /// # Errors
    /// There is no code in it.
    pub fn exit_code(&self) -> Result<i32> {
        let status: serde_json::Value =
            serde_json::from_str(&self.error).with_context(|| self.error.clone())?;
        if status["status"] == "Success" {
            return Ok(0);
        }
        let cause = &status["details"]["causes"][0];
        if cause["reason"] != "ExitCode" {
            bail!("no exit code in {status}");
        }
        Ok(cause["message"].as_str().unwrap_or_default().parse()?)
    }
}

impl Command {
    /// Opens a session. `protocol` is one of SPDY's (`v4.channel.k8s.io` and older), or one of WebSocket's after `ws:`.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn open(connection: Connection, protocol: &str, wanted: Wanted) -> Result<Self> {
        if let Some(protocol) = protocol.strip_prefix("ws:") {
            let (writer, reader) = open_websocket(connection, protocol).await?;
            return Ok(Self {
                writer: CommandWriter::WebSocket(writer),
                reader: CommandReader::WebSocket(reader),
            });
        }
        let protocols: &[&str] = if protocol.is_empty() {
            &[]
        } else {
            &[protocol]
        };
        let (mut writer, reader) = open_spdy(connection, protocols).await?;
        let error = writer.open(&[("streamtype", "error")]).await?;
        let mut stdin = 0;
        if wanted.stdin {
            stdin = writer.open(&[("streamtype", "stdin")]).await?;
        }
        let stdout = writer.open(&[("streamtype", "stdout")]).await?;
        let mut stderr = 0;
        if wanted.stderr {
            stderr = writer.open(&[("streamtype", "stderr")]).await?;
        }
        let mut resize = 0;
        if wanted.tty {
            resize = writer.open(&[("streamtype", "resize")]).await?;
        }
        Ok(Self {
            writer: CommandWriter::Spdy(writer, stdin, resize),
            reader: CommandReader::Spdy(Box::new(reader), [stdout, stderr, error]),
        })
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// The connection broke before the end.
    pub async fn finish(mut self) -> Result<Finished> {
        self.reader.finish().await
    }
}

impl CommandWriter {
    /// Types.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Spdy(writer, stdin, _) => writer.send(*stdin, bytes).await,
            Self::WebSocket(writer) => writer.send(0, bytes).await,
        }
    }

    /// Ends the input.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn end(&mut self) -> Result<()> {
        match self {
            Self::Spdy(writer, stdin, _) => writer.end(*stdin).await,
            Self::WebSocket(writer) => writer.end(0).await,
        }
    }

    /// Tells the size of the terminal.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn resize(&mut self, width: u16, height: u16) -> Result<()> {
        let size = json!({"Width": width, "Height": height}).to_string();
        match self {
            Self::Spdy(writer, _, resize) => writer.send(*resize, size.as_bytes()).await,
            Self::WebSocket(writer) => writer.send(4, size.as_bytes()).await,
        }
    }
}

impl CommandReader {
    /// The next content and its channel: 1 is stdout, 2 stderr, 3 the error channel. `None` at the end of everything.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<(u8, Bytes)>> {
        match self {
            Self::WebSocket(reader) => reader.next().await,
            Self::Spdy(reader, channels) => {
                while channels[2] != 0 {
                    let Some((stream, bytes, fin)) = next_data(reader).await? else {
                        bail!("the server broke off");
                    };
                    let Some(at) = channels.iter().position(|number| *number == stream) else {
                        bail!("data on stream {stream}");
                    };
                    // The error stream is the last that the server ends.
                    if fin {
                        channels[at] = 0;
                    }
                    if !bytes.is_empty() {
                        return Ok(Some((at as u8 + 1, bytes)));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// The connection broke before the end.
    pub async fn finish(&mut self) -> Result<Finished> {
        let mut finished = Finished::default();
        let mut error = Vec::new();
        while let Some((channel, bytes)) = self.next().await? {
            match channel {
                1 => finished.stdout.extend_from_slice(&bytes),
                2 => finished.stderr.extend_from_slice(&bytes),
                3 => error.extend_from_slice(&bytes),
                other => bail!("data on channel {other}"),
            }
        }
        finished.error = String::from_utf8(error)?;
        Ok(finished)
    }
}
