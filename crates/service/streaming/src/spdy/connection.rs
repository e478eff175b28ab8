//! The server's side of a connection.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::frame::{Control, FrameReader, Received, ResetReason, data_header};
use super::headers::Deflater;
use super::windows::Windows;
use crate::socket::{Activity, Socket};
use crate::transport::{CONTROL_QUEUE, DATA_QUEUE, Incoming, Outgoing, Sender};

/// Most streams that the client may have open towards us.
const MOST_STREAMS: usize = 2048;

/// Bytes written at once at most, besides one frame's.
const BATCH: usize = 64 << 10;

/// The receiving side.
#[derive(Debug)]
pub(crate) struct Reader<R = ReadHalf<Socket>> {
    frames: FrameReader<R>,
    sender: Sender,
    windows: Arc<Windows>,
    /// Streams on which data may arrive.
    open: HashSet<u32>,
    newest: u32,
    activity: Activity,
}

/// Takes a connection over: what arrives, what is sent, and the work of sending.
pub(crate) fn split(
    socket: Socket,
    activity: &Activity,
) -> (Reader, Sender, impl Future<Output = io::Result<()>> + use<>) {
    let (read, write) = tokio::io::split(socket);
    let (data, data_queue) = mpsc::channel(DATA_QUEUE);
    let (control, control_queue) = mpsc::channel(CONTROL_QUEUE);
    let windows = Arc::new(Windows::default());
    let sender = Sender::new(data, Some((control, Arc::clone(&windows))));
    let reader = Reader {
        frames: FrameReader::new(read),
        sender: sender.clone(),
        windows,
        open: HashSet::new(),
        newest: 0,
        activity: activity.clone(),
    };
    let writing = write_frames(write, control_queue, data_queue, activity.clone());
    (reader, sender, writing)
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// What arrived next; `None` when there will be no more. May be cancelled.
    pub(crate) async fn next(&mut self) -> Option<Incoming> {
        loop {
            let received = match self.frames.next().await {
                Ok(received) => received?,
                Err(error) => {
                    tracing::debug!("A streaming client's connection ended: {error}");
                    return None;
                }
            };
            self.activity.touch();
            match received {
                Received::Data { stream, bytes, fin } => {
                    // What we reset may still have data on its way.
                    if !self.open.contains(&stream) {
                        self.sender.taken(0, bytes.len());
                        continue;
                    }
                    if fin {
                        self.open.remove(&stream);
                    }
                    return Some(Incoming::Data {
                        id: stream,
                        bytes,
                        end: fin,
                    });
                }
                Received::Control(Control::GoAway) => return None,
                Received::Control(control) => {
                    if let Some(incoming) = self.control(control)? {
                        return Some(incoming);
                    }
                }
            }
        }
    }

    /// `None` when the connection is to end, `Some(None)` when there is nothing to hand on.
    fn control(&mut self, control: Control) -> Option<Option<Incoming>> {
        match control {
            Control::Open {
                stream,
                fin,
                headers,
            } => {
                // Clients use odd numbers, each larger than the last.
                let reason = if stream % 2 == 0 || stream <= self.newest {
                    Some(ResetReason::Protocol)
                } else if self.open.len() >= MOST_STREAMS {
                    Some(ResetReason::Refused)
                } else {
                    None
                };
                self.newest = self.newest.max(stream);
                if let Some(reason) = reason {
                    self.sender.control(Control::Reset {
                        stream,
                        reason: reason as u32,
                    })?;
                    return Some(None);
                }
                if !fin {
                    self.open.insert(stream);
                }
                self.windows.open(stream);
                return Some(Some(Incoming::Opened {
                    id: stream,
                    headers,
                    end: fin,
                }));
            }
            Control::Reset { stream, .. } => {
                self.forget(stream);
                return Some(Some(Incoming::Reset { id: stream }));
            }
            Control::Ping { id } if id % 2 == 1 => self.sender.control(Control::Ping { id })?,
            Control::Window { stream, more } => self.windows.enlarge(stream, more),
            Control::InitialWindow { bytes } => self.windows.set_initial(bytes),
            _ => {}
        }
        Some(None)
    }

    /// Nothing more is expected of a stream.
    pub(crate) fn forget(&mut self, stream: u32) {
        self.open.remove(&stream);
        self.windows.close(stream);
    }
}

/// Writes what is queued, until all senders are gone or the connection breaks. Control frames go first.
async fn write_frames(
    mut io: WriteHalf<Socket>,
    mut control: mpsc::Receiver<Control>,
    mut data: mpsc::Receiver<Outgoing>,
    activity: Activity,
) -> io::Result<()> {
    let mut deflater = Deflater::new()?;
    let mut batch = Vec::new();
    loop {
        let first = tokio::select! {
            biased;
            Some(frame) = control.recv() => {
                frame.encode(&mut deflater, &mut batch)?;
                None
            }
            outgoing = data.recv() => match outgoing {
                Some(outgoing) => Some(outgoing),
                None => return io.shutdown().await,
            },
        };
        let mut next = first;
        loop {
            // What was queued here before the data was queued there has to be before it.
            while let Ok(frame) = control.try_recv() {
                frame.encode(&mut deflater, &mut batch)?;
            }
            if let Some(outgoing) = next.take() {
                put(outgoing, &mut deflater, &mut batch)?;
            }
            if batch.len() >= BATCH {
                break;
            }
            match data.try_recv() {
                Ok(outgoing) => next = Some(outgoing),
                Err(_) => break,
            }
        }
        io.write_all(&batch).await?;
        io.flush().await?;
        activity.touch();
        batch.clear();
        if batch.capacity() > BATCH && data.is_empty() {
            batch = Vec::new();
        }
    }
}

fn put(outgoing: Outgoing, deflater: &mut Deflater, batch: &mut Vec<u8>) -> io::Result<()> {
    let mut data = |stream, bytes: &Bytes, fin| {
        batch.extend_from_slice(&data_header(stream, bytes.len(), fin));
        batch.extend_from_slice(bytes);
    };
    match outgoing {
        Outgoing::Data { id, bytes } => data(id, &bytes, false),
        Outgoing::End { id } => data(id, &Bytes::new(), true),
        Outgoing::Reset { id } => {
            let reason = ResetReason::Cancel as u32;
            Control::Reset { stream: id, reason }.encode(deflater, batch)?;
        }
        Outgoing::Close => Control::GoAway.encode(deflater, batch)?,
    }
    Ok(())
}
