//! What a client is told whose deadline passes, seen without a client that keeps its own time.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crioxide_test_support::skip_unless;

use crate::scene::{Scene, possible};

/// `grpc-status` as HPACK spells it with Huffman's code: the name of a new field.
const GRPC_STATUS: &[u8] = &[0x88, 0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];
/// The values 4 (DEADLINE_EXCEEDED) and 1 (CANCELLED) by the same code.
const EXCEEDED: u8 = 0x6b;
const CANCELLED: u8 = 0x0f;

#[tokio::test(flavor = "multi_thread")]
async fn have_their_own_code() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    // Takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let image = format!("127.0.0.1:{}/silent:1", silent.local_addr()?.port());
    let socket = scene.node.place().socket();
    for limit in ["1n", "900u", "50m"] {
        for _ in 0..10 {
            let value = pull(&socket, &image, limit)?;
            ensure!(value != CANCELLED, "{limit}: cancelled");
            ensure!(value == EXCEEDED, "{limit}: value {value:#x}");
        }
    }
    scene.node.finish().await
}

/// The status of a PullImage with a limit of time, as it is on the wire.
fn pull(socket: &Path, image: &str, limit: &str) -> Result<u8> {
    let mut stream = UnixStream::connect(socket).context("connect")?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut headers = vec![0x83, 0x86]; // :method POST, :scheme http
    for (name, value) in [
        (":path", "/runtime.v1.ImageService/PullImage"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", limit),
    ] {
        headers.push(0); // a field that is not remembered
        for text in [name, value] {
            headers.push(u8::try_from(text.len())?);
            headers.extend_from_slice(text.as_bytes());
        }
    }
    // PullImageRequest.image.image.
    let name_length = u8::try_from(image.len())?;
    let mut message = vec![0x0a, name_length + 2, 0x0a, name_length];
    message.extend_from_slice(image.as_bytes());
    let mut data = vec![0, 0, 0, 0, u8::try_from(message.len())?];
    data.extend_from_slice(&message);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    for (kind, flags, stream_number, payload) in [
        (4, 0, 0, &[][..]),      // SETTINGS
        (1, 4, 1, &headers[..]), // HEADERS, all of them
        (0, 1, 1, &data[..]),    // DATA, the last
    ] {
        bytes.extend_from_slice(&[0, 0, u8::try_from(payload.len())?, kind, flags]);
        bytes.extend_from_slice(&[0, 0, 0, stream_number]);
        bytes.extend_from_slice(payload);
    }
    stream.write_all(&bytes)?;
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).context("read a frame")?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let mut payload = vec![0; usize::try_from(length)?];
        stream.read_exact(&mut payload)?;
        if header[8] != 1 {
            continue;
        }
        let mut windows = payload.windows(GRPC_STATUS.len());
        let Some(at) = windows.position(|window| window == GRPC_STATUS) else {
            bail!("no status in frame {header:?}: {payload:x?}");
        };
        // One byte, by Huffman's code.
        let value = payload.get(at + GRPC_STATUS.len()..).unwrap_or_default();
        ensure!(value.first() == Some(&0x81), "{payload:x?}");
        return value.get(1).copied().context("a value");
    }
}
