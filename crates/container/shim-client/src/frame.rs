//! Frames of ttrpc: ten bytes of header, then data.
//!
//! The header is the data's length and the stream's number, both big-endian and 32 bits wide, the message's type and its
//! flags. Only unary calls are used: one request, one response.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes of a header.
pub const HEADER_SIZE: usize = 10;

/// Most data of a frame, bytes.
pub const MOST_DATA: usize = 4 << 20;

/// Type of a frame that asks.
pub const REQUEST: u8 = 1;
/// Type of a frame that answers.
pub const RESPONSE: u8 = 2;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Number of the call. Odd ones are the client's.
    pub stream: u32,
    /// [`REQUEST`], [`RESPONSE`], or one of those that only streams have.
    pub kind: u8,
    /// What it carries.
    pub data: Vec<u8>,
}

impl Frame {
    /// The bytes of it. `None` when the data is too long.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let length = u32::try_from(self.data.len()).ok()?;
        if self.data.len() > MOST_DATA {
            return None;
        }
        let mut bytes = Vec::with_capacity(HEADER_SIZE + self.data.len());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&[self.kind, 0]);
        bytes.extend_from_slice(&self.data);
        Some(bytes)
    }

    /// Reads one; `None` at the end.
    ///
    /// # Errors
    /// The connection is broken, ends inside of a frame, or a frame is longer than allowed.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut header = [0; HEADER_SIZE];
        let mut read = 0;
        while read < HEADER_SIZE {
            match from.read(&mut header[read..]).await? {
                0 if read == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => read += count,
            }
        }
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length > MOST_DATA {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a frame of {length} bytes"),
            ));
        }
        let mut data = Vec::new();
        // Grows with what comes, not with what is promised.
        from.take(length as u64).read_to_end(&mut data).await?;
        if data.len() < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(Self {
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            kind,
            data,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_as_the_specification_draws_them() {
        let frame = Frame {
            stream: 0x0102_0305,
            kind: REQUEST,
            data: b"abc".to_vec(),
        };
        let bytes = frame.encode().unwrap();
        assert_eq!(bytes, b"\0\0\0\x03\x01\x02\x03\x05\x01\0abc");
        let mut two = bytes.repeat(2);
        let mut input = two.as_slice();
        for _ in 0..2 {
            assert_eq!(Frame::read(&mut input).await.unwrap().unwrap(), frame);
        }
        assert_eq!(Frame::read(&mut input).await.unwrap(), None);
        two.pop();
        let mut input = two.as_slice();
        Frame::read(&mut input).await.unwrap();
        let torn = Frame::read(&mut input).await.unwrap_err();
        assert_eq!(torn.kind(), io::ErrorKind::UnexpectedEof);
        let torn = Frame::read(&mut &bytes[..4]).await.unwrap_err();
        assert_eq!(torn.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn longer_frames_than_allowed_are_neither_sent_nor_read() {
        let frame = Frame {
            stream: 1,
            kind: REQUEST,
            data: vec![0; MOST_DATA + 1],
        };
        assert_eq!(frame.encode(), None);
        let error = Frame::read(&mut &b"\0\x40\0\x01\0\0\0\x01\x02\0"[..]).await;
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
