//! ttrpc's frames, as a server reads and writes them.

use std::io::{self, Read, Write};

use anyhow::{Result, ensure};
use crioxide_shim_client::messages::{Request, Response, Status};
use prost::Message;

const LARGEST: usize = 4 << 20;

/// The next request with its number; `None` at the end.
pub(crate) fn receive(socket: &mut impl Read) -> Result<Option<(u32, Request)>> {
    let mut header = [0; 10];
    match socket.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let number = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap_or_default());
    let length = number(0) as usize;
    ensure!(length <= LARGEST, "a frame of {length} bytes");
    ensure!(
        header[8] == 1 && header[9] == 0,
        "not a request of one frame"
    );
    ensure!(number(4) % 2 == 1, "a stream of the server's");
    let mut data = vec![0; length];
    socket.read_exact(&mut data)?;
    Ok(Some((number(4), Request::decode(data.as_slice())?)))
}

/// Answers a request.
pub(crate) fn answer(
    socket: &mut impl Write,
    stream: u32,
    result: Result<Vec<u8>, Refusal>,
) -> Result<()> {
    let response = match result {
        Ok(payload) => Response {
            status: None,
            payload,
        },
        Err(Refusal(code, message)) => Response {
            status: Some(Status { code, message }),
            payload: Vec::new(),
        },
    };
    let data = response.encode_to_vec();
    let mut frame = u32::try_from(data.len())?.to_be_bytes().to_vec();
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&[2, 0]);
    frame.extend_from_slice(&data);
    Ok(socket.write_all(&frame)?)
}

/// Makes one call on a fresh connection, and reads the whole of its answer.
pub(crate) fn ask(socket: &mut (impl Read + Write), request: &Request) -> Result<()> {
    let data = request.encode_to_vec();
    let mut frame = u32::try_from(data.len())?.to_be_bytes().to_vec();
    frame.extend_from_slice(&[0, 0, 0, 1, 1, 0]);
    frame.extend_from_slice(&data);
    socket.write_all(&frame)?;
    let mut header = [0; 10];
    socket.read_exact(&mut header)?;
    ensure!(header[4..9] == [0, 0, 0, 1, 2], "not an answer: {header:?}");
    Ok(())
}

/// A code of gRPC and a reason.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) i32, pub(crate) String);

impl<E: std::fmt::Display> From<E> for Refusal {
    fn from(error: E) -> Self {
        // Unknown.
        Self(2, error.to_string())
    }
}

pub(crate) fn not_found(what: &str) -> Refusal {
    Refusal(5, format!("{what}: not found"))
}
