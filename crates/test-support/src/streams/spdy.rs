//! A client that speaks SPDY/3.1.

use anyhow::{Result, ensure};
use crioxide_streaming::spdy::{Control, Deflater, FrameReader, Received, data_header};
use tokio::io::{AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::connection::{Connection, Io, header, upgrade};

/// Receives. Its `next` answers nothing by itself: pings and updates are the test's business.
pub type SpdyReader = FrameReader<ReadHalf<Box<dyn Io>>>;

/// Opens streams and sends on them.
pub struct SpdyWriter {
    io: WriteHalf<Box<dyn Io>>,
    deflater: Deflater,
    next: u32,
    /// The protocol that the server chose.
    pub protocol: Option<String>,
}

impl std::fmt::Debug for SpdyWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpdyWriter").finish_non_exhaustive()
    }
}

/// Agrees on SPDY and one of `protocols`.
///
/// # Errors
/// The server refuses (see [`super::Refused`]) or breaks off.
pub async fn open_spdy(
    mut connection: Connection,
    protocols: &[&str],
) -> Result<(SpdyWriter, SpdyReader)> {
    let mut lines = vec![
        "Connection: Upgrade".to_owned(),
        "Upgrade: SPDY/3.1".to_owned(),
    ];
    lines.extend(
        protocols
            .iter()
            .map(|protocol| format!("X-Stream-Protocol-Version: {protocol}")),
    );
    let head = upgrade(&mut connection, &lines).await?;
    ensure!(
        header(&head, "upgrade").as_deref() == Some("SPDY/3.1"),
        "{head}"
    );
    Ok(over(
        connection.io,
        header(&head, "x-stream-protocol-version"),
    )?)
}

/// Speaks SPDY over a connection that is agreed upon.
///
/// # Errors
/// The compressor cannot be made.
pub(super) fn over(
    io: Box<dyn Io>,
    protocol: Option<String>,
) -> std::io::Result<(SpdyWriter, SpdyReader)> {
    let (read, write) = tokio::io::split(io);
    let writer = SpdyWriter {
        io: write,
        deflater: Deflater::new()?,
        next: 1,
        protocol,
    };
    Ok((writer, FrameReader::new(read)))
}

impl SpdyWriter {
    /// Opens a stream, without waiting for the reply.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn open(&mut self, headers: &[(&str, &str)]) -> Result<u32> {
        let stream = self.next;
        self.next += 2;
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let fin = false;
        self.control(&Control::Open {
            stream,
            fin,
            headers,
        })
        .await?;
        Ok(stream)
    }

    /// Sends a control frame.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn control(&mut self, control: &Control) -> Result<()> {
        let mut bytes = Vec::new();
        control.encode(&mut self.deflater, &mut bytes)?;
        self.io.write_all(&bytes).await?;
        self.io.flush().await?;
        Ok(())
    }

    /// Sends data in one frame.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, stream: u32, bytes: &[u8]) -> Result<()> {
        self.frame(stream, bytes, false).await
    }

    /// Ends our side of a stream.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn end(&mut self, stream: u32) -> Result<()> {
        self.frame(stream, &[], true).await
    }

    /// Gives a stream up.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn reset(&mut self, stream: u32) -> Result<()> {
        self.control(&Control::Reset { stream, reason: 5 }).await
    }

    async fn frame(&mut self, stream: u32, bytes: &[u8], fin: bool) -> Result<()> {
        let mut frame = data_header(stream, bytes.len(), fin).to_vec();
        frame.extend_from_slice(bytes);
        self.io.write_all(&frame).await?;
        self.io.flush().await?;
        Ok(())
    }
}

/// What a read gave, without what needs no answer.
pub(super) async fn next_data(
    reader: &mut SpdyReader,
) -> Result<Option<(u32, bytes::Bytes, bool)>> {
    loop {
        match reader.next().await? {
            None | Some(Received::Control(Control::GoAway)) => return Ok(None),
            Some(Received::Data { stream, bytes, fin }) => return Ok(Some((stream, bytes, fin))),
            Some(Received::Control(_)) => {}
        }
    }
}
