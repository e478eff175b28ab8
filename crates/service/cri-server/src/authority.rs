//! Connections of clients that name the socket's path as their `:authority`.
//!
//! gRPC's C core (Python, C++, Ruby), Java and Swift put the path of a unix socket there, as it is or percent-encoded.
//! That is no authority by the rules of HTTP, and the HTTP library resets such streams before any of our code sees them.
//! Nobody asks a CRI socket for its host name, so every authority is replaced on its way in.

mod frames;
mod header_block;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tonic::transport::server::{Connected, UdsConnectInfo};

use frames::Frames;

/// Bytes taken from the socket at once.
const CHUNK: usize = 16 << 10;

/// A client's connection whose requests all have an authority that passes.
#[derive(Debug)]
pub(crate) struct AnyAuthority {
    stream: UnixStream,
    frames: Frames,
    chunk: Box<[u8]>,
    /// What has been looked at and not been handed on yet, from `given` on.
    ready: Vec<u8>,
    given: usize,
}

impl AnyAuthority {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            frames: Frames::default(),
            chunk: vec![0; CHUNK].into(),
            ready: Vec::new(),
            given: 0,
        }
    }
}

impl AsyncRead for AnyAuthority {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.given == this.ready.len() {
            let mut chunk = ReadBuf::new(&mut this.chunk);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.ready.clear();
            this.given = 0;
            this.frames.pass(chunk.filled(), &mut this.ready);
        }
        let count = buffer.remaining().min(this.ready.len() - this.given);
        buffer.put_slice(&this.ready[this.given..this.given + count]);
        this.given += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AnyAuthority {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for AnyAuthority {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A request for a method that nobody has, with `authority` as C core writes it.
    fn request(authority: &[u8]) -> Vec<u8> {
        // :method POST, :scheme http, :path /a/b, :authority, content-type, te.
        let mut block = vec![0x83, 0x86, 0x44, 4];
        block.extend_from_slice(b"/a/b");
        block.extend_from_slice(b"\x40\x0a:authority");
        block.push(u8::try_from(authority.len()).unwrap());
        block.extend_from_slice(authority);
        block.extend_from_slice(&[0x5f, 16]);
        block.extend_from_slice(b"application/grpc");
        block.extend_from_slice(&[0x40, 2]);
        block.extend_from_slice(b"te");
        block.push(8);
        block.extend_from_slice(b"trailers");
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
        // HEADERS of stream 1, the end of the headers and of the stream.
        bytes.extend_from_slice(&[0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
        bytes.extend(block);
        bytes
    }

    /// The type of the first frame that answers stream 1.
    async fn answer(bytes: &[u8]) -> u8 {
        let (mut client, server) = UnixStream::pair().unwrap();
        let connections = tokio_stream::once(Ok::<_, io::Error>(AnyAuthority::new(server)));
        let serving =
            tonic::transport::Server::builder().add_routes(tonic::service::Routes::default());
        let serving = tokio::spawn(serving.serve_with_incoming(connections));
        client.write_all(bytes).await.unwrap();
        loop {
            let mut header = [0; 9];
            client.read_exact(&mut header).await.unwrap();
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            client.read_exact(&mut payload).await.unwrap();
            if header[8] == 1 {
                serving.abort();
                return header[3];
            }
        }
    }

    #[tokio::test]
    async fn answers_clients_that_name_the_socket() {
        const HEADERS: u8 = 1;
        for authority in [
            "localhost",
            "%2Frun%2Fcrio%2Fcrio.sock",
            "/run/crio/crio.sock",
        ] {
            assert_eq!(
                answer(&request(authority.as_bytes())).await,
                HEADERS,
                "{authority}"
            );
        }
    }
}
