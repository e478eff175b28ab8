//! A bounded pipe from an async producer to a blocking reader.

use std::io::{self, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::copy::patience::Pulse;

/// Pieces under way. A piece is what a connection delivers at once, at most about 1 MiB.
const DEPTH: usize = 16;

/// The producing end. Dropping it without [`PipeWriter::finish`] makes the reader fail.
#[derive(Debug)]
pub(crate) struct PipeWriter(mpsc::Sender<Piece>);

/// The reading end, for a thread that may block.
#[derive(Debug)]
pub(crate) struct PipeReader {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    finished: bool,
    /// Of the reading thread.
    pulse: Pulse,
}

#[derive(Debug)]
enum Piece {
    Content(Bytes),
    End,
}

/// Nobody reads any more.
#[derive(Debug)]
pub(crate) struct ReaderGone;

pub(crate) fn pipe(pulse: &Pulse) -> (PipeWriter, PipeReader) {
    let (sender, pieces) = mpsc::channel(DEPTH);
    (
        PipeWriter(sender),
        PipeReader {
            pieces,
            current: Bytes::new(),
            finished: false,
            pulse: pulse.clone(),
        },
    )
}

impl PipeWriter {
    /// Hands a piece over; waits while the reader is behind.
    pub(crate) async fn write(&self, piece: Bytes) -> Result<(), ReaderGone> {
        self.0
            .send(Piece::Content(piece))
            .await
            .map_err(|_| ReaderGone)
    }

    /// Everything came and is what it should be: the reader may see the end.
    pub(crate) async fn finish(self) -> Result<(), ReaderGone> {
        self.0.send(Piece::End).await.map_err(|_| ReaderGone)
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.finished {
            match self.pulse.wait(|| self.pieces.blocking_recv()) {
                Some(Piece::Content(piece)) => self.current = piece,
                Some(Piece::End) => self.finished = true,
                None => {
                    let reason = "the content broke off before its end";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
                }
            }
        }
        let piece = self.current.split_to(buffer.len().min(self.current.len()));
        buffer[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}
