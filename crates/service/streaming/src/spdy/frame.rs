//! Frames to and from bytes.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::headers::{Deflater, Headers, Inflater};

const VERSION: u16 = 3;
const FIN: u8 = 1;
const SETTING_INITIAL_WINDOW: u32 = 7;

/// Largest control frame.
const LARGEST_CONTROL: usize = 64 << 10;

/// Most bytes of a data frame handed on at once: a frame may have 16 MiB, which are not collected.
const PIECE: usize = 32 << 10;

/// Room for reading while little arrives: most connections are silent most of the time.
const SMALL: usize = 2 << 10;

/// Why a stream is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    /// It broke the rules.
    Protocol = 1,
    /// It is not wanted.
    Refused = 3,
    /// It is not needed any more.
    Cancel = 5,
}

/// A control frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// A new stream.
    Open {
        /// Its number.
        stream: u32,
        /// Its opener will send no data.
        fin: bool,
        /// What it is for.
        headers: Headers,
    },
    /// The new stream is taken.
    Reply {
        /// Its number.
        stream: u32,
    },
    /// The stream ends at once in both directions.
    Reset {
        /// Its number.
        stream: u32,
        /// Why, as on the wire.
        reason: u32,
    },
    /// The initial window of all streams; other settings are left out.
    InitialWindow {
        /// Bytes.
        bytes: u32,
    },
    /// To be sent back.
    Ping {
        /// Odd from clients, even from servers.
        id: u32,
    },
    /// The connection is about to end.
    GoAway,
    /// More may be sent.
    Window {
        /// Its number; 0 is the connection.
        stream: u32,
        /// Bytes.
        more: u32,
    },
    /// Something that says nothing to us.
    Ignored,
}

/// What arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A control frame.
    Control(Control),
    /// A data frame, or a part of one.
    Data {
        /// Stream.
        stream: u32,
        /// Content.
        bytes: Bytes,
        /// The stream's last.
        fin: bool,
    },
}

/// The first eight bytes of a data frame.
pub fn data_header(stream: u32, length: usize, fin: bool) -> [u8; 8] {
    let mut header = [0; 8];
    header[..4].copy_from_slice(&(stream & 0x7fff_ffff).to_be_bytes());
    header[4..].copy_from_slice(&(length as u32 & 0x00ff_ffff).to_be_bytes());
    header[4] = if fin { FIN } else { 0 };
    header
}

impl Control {
    /// Appends the frame.
    ///
    /// # Errors
    /// The compressor fails.
    pub fn encode(&self, deflater: &mut Deflater, out: &mut Vec<u8>) -> io::Result<()> {
        let mut body = Vec::new();
        let mut numbers = |numbers: &[u32]| {
            for number in numbers {
                body.extend_from_slice(&number.to_be_bytes());
            }
        };
        let (kind, flags) = match self {
            Self::Open {
                stream,
                fin,
                headers,
            } => {
                numbers(&[*stream, 0]);
                body.extend_from_slice(&[0, 0]);
                deflater.encode(headers, &mut body)?;
                (1, if *fin { FIN } else { 0 })
            }
            Self::Reply { stream } => {
                numbers(&[*stream]);
                deflater.encode(&Headers::new(), &mut body)?;
                (2, 0)
            }
            Self::Reset { stream, reason } => {
                numbers(&[*stream, *reason]);
                (3, 0)
            }
            Self::InitialWindow { bytes } => {
                numbers(&[1, SETTING_INITIAL_WINDOW, *bytes]);
                (4, 0)
            }
            Self::Ping { id } => {
                numbers(&[*id]);
                (6, 0)
            }
            Self::GoAway => {
                numbers(&[0, 0]);
                (7, 0)
            }
            Self::Window { stream, more } => {
                numbers(&[*stream, *more]);
                (9, 0)
            }
            Self::Ignored => return Ok(()),
        };
        out.extend_from_slice(&(VERSION | 0x8000).to_be_bytes());
        out.extend_from_slice(&u16::to_be_bytes(kind));
        let mut length = (body.len() as u32).to_be_bytes();
        length[0] = flags;
        out.extend_from_slice(&length);
        out.extend_from_slice(&body);
        Ok(())
    }
}

/// Reads frames. [`FrameReader::next`] may be cancelled.
#[derive(Debug)]
pub struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    inflater: Inflater,
    /// Stream, bytes to come and end mark of the data frame being read.
    data: Option<(u32, usize, bool)>,
    room: usize,
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// At the start of a connection.
    pub fn new(io: R) -> Self {
        Self {
            io,
            buffer: BytesMut::new(),
            inflater: Inflater::default(),
            data: None,
            room: SMALL,
        }
    }

    /// The next frame or piece of one; `None` at the end.
    ///
    /// # Errors
    /// The connection broke, or what it carries is not SPDY.
    pub async fn next(&mut self) -> io::Result<Option<Received>> {
        loop {
            if let Some(received) = self.take()? {
                return Ok(Some(received));
            }
            if self.buffer.is_empty() && self.room == SMALL {
                self.buffer = BytesMut::new();
            }
            self.buffer.reserve(self.room);
            let count = self.io.read_buf(&mut self.buffer).await?;
            self.room = if count < SMALL { SMALL } else { PIECE + 8 };
            if count == 0 {
                return if self.buffer.is_empty() && self.data.is_none() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    fn take(&mut self) -> io::Result<Option<Received>> {
        if let Some((stream, left, fin)) = self.data {
            let count = left.min(self.buffer.len()).min(PIECE);
            if count == 0 && left > 0 {
                return Ok(None);
            }
            self.data = (count < left).then_some((stream, left - count, fin));
            return Ok(Some(Received::Data {
                stream,
                bytes: self.buffer.split_to(count).freeze(),
                fin: fin && count == left,
            }));
        }
        let Some(head) = self.buffer.first_chunk::<8>() else {
            return Ok(None);
        };
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let flags = head[4];
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        if first & 0x8000_0000 == 0 {
            if first == 0 {
                return Err(invalid("a data frame has no stream"));
            }
            self.buffer.advance(8);
            self.data = Some((first, length, flags & FIN != 0));
            return self.take();
        }
        if length > LARGEST_CONTROL {
            return Err(invalid("a control frame is too large"));
        }
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        self.buffer.advance(8);
        let body = self.buffer.split_to(length).freeze();
        let version = (first >> 16) as u16 & 0x7fff;
        if version != VERSION {
            return Err(invalid("a frame is of another version of SPDY"));
        }
        self.control(first as u16, flags, body)
            .map(|control| Some(Received::Control(control)))
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> io::Result<Control> {
        let mut number = || {
            body.try_get_u32()
                .map_err(|_| invalid("a control frame is too short"))
        };
        Ok(match kind {
            1 => {
                let (stream, _associated) = (number()? & 0x7fff_ffff, number()?);
                if body.len() < 2 {
                    return Err(invalid("a control frame is too short"));
                }
                body.advance(2);
                Control::Open {
                    stream,
                    fin: flags & FIN != 0,
                    headers: self.inflater.decode(&body)?,
                }
            }
            2 => {
                let stream = number()? & 0x7fff_ffff;
                self.inflater.decode(&body)?;
                Control::Reply { stream }
            }
            3 => Control::Reset {
                stream: number()? & 0x7fff_ffff,
                reason: number()?,
            },
            4 => {
                let mut window = Control::Ignored;
                for _ in 0..number()?.min(64) {
                    let (id, bytes) = (number()? & 0x00ff_ffff, number()?);
                    if id == SETTING_INITIAL_WINDOW {
                        window = Control::InitialWindow { bytes };
                    }
                }
                window
            }
            6 => Control::Ping { id: number()? },
            7 => Control::GoAway,
            8 => {
                number()?;
                // The block has to be read, because later ones are compressed with it.
                self.inflater.decode(&body)?;
                Control::Ignored
            }
            9 => Control::Window {
                stream: number()? & 0x7fff_ffff,
                more: number()? & 0x7fff_ffff,
            },
            _ => Control::Ignored,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(bytes: &[u8]) -> io::Result<Vec<Received>> {
        let mut reader = FrameReader::new(bytes);
        let mut all = Vec::new();
        while let Some(received) = reader.next().await? {
            all.push(received);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn control_frames_come_back() {
        let frames = [
            Control::Open {
                stream: 1,
                fin: false,
                headers: vec![("streamtype".to_owned(), "error".to_owned())],
            },
            Control::Open {
                stream: 3,
                fin: true,
                headers: vec![("streamtype".to_owned(), "stdin".to_owned())],
            },
            Control::Reply { stream: 3 },
            Control::Reset {
                stream: 3,
                reason: ResetReason::Cancel as u32,
            },
            Control::InitialWindow { bytes: 70_000 },
            Control::Ping { id: 5 },
            Control::Window {
                stream: 0,
                more: 32 << 10,
            },
            Control::GoAway,
        ];
        let (mut bytes, mut deflater) = (Vec::new(), Deflater::new().unwrap());
        for frame in &frames {
            frame.encode(&mut deflater, &mut bytes).unwrap();
        }
        let read = read_all(&bytes).await.unwrap();
        let expected: Vec<_> = frames.into_iter().map(Received::Control).collect();
        assert_eq!(read, expected);
    }

    #[tokio::test]
    async fn a_large_data_frame_comes_in_pieces() {
        let mut bytes = data_header(7, 100_000, true).to_vec();
        bytes.extend_from_slice(&[b'x'; 100_000]);
        bytes.extend_from_slice(&data_header(9, 0, true));
        let read = read_all(&bytes).await.unwrap();
        let mut total = 0;
        let (last, pieces) = read.split_last().unwrap();
        for (at, received) in pieces.iter().enumerate() {
            let Received::Data {
                stream: 7,
                bytes,
                fin,
            } = received
            else {
                panic!("{received:?}");
            };
            assert!(bytes.len() <= PIECE);
            assert_eq!(*fin, at + 1 == pieces.len());
            total += bytes.len();
        }
        assert_eq!(total, 100_000);
        let end = Received::Data {
            stream: 9,
            bytes: Bytes::new(),
            fin: true,
        };
        assert_eq!(*last, end);
    }

    #[tokio::test]
    async fn what_is_no_spdy_is_an_error() {
        for bad in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff],
            &[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1],
            &[0x80, 3, 0, 6, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0, 1, 0],
            &[0x80, 3, 0, 1, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
            &[0x80, 3],
        ] {
            assert!(read_all(bad).await.is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(bytes: Vec<u8>) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(read_all(&bytes));
        }
    }
}
