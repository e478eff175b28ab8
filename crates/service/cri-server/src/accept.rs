//! One socket for two protocols: HTTP/2 is gRPC, everything else goes to whoever serves HTTP/1.

use std::{io, time::Duration};

use rustix::net::RecvFlags;
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

/// How every HTTP/2 connection begins; no HTTP/1 request does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// A client that says nothing for so long is taken for one of gRPC that waits for the server's first word.
const SILENCE: Duration = Duration::from_secs(5);

/// Takes connections until the receiver of the gRPC ones is gone; each is looked at in a task of its own.
pub(crate) async fn run(
    listener: UnixListener,
    grpc: mpsc::Sender<io::Result<UnixStream>>,
    http: mpsc::UnboundedSender<std::os::unix::net::UnixStream>,
) {
    loop {
        let stream = tokio::select! {
            () = grpc.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: others close some meanwhile.
                    tracing::warn!("Failed to accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let (grpc, http) = (grpc.clone(), http.clone());
        tokio::spawn(async move {
            let is_grpc = match tokio::time::timeout(SILENCE, begins_as_grpc(&stream)).await {
                Ok(Ok(is_grpc)) => is_grpc,
                Ok(Err(_)) => return,
                Err(_) => true,
            };
            // Either end may be shutting down, and the connection then closes.
            if is_grpc {
                let _ = grpc.send(Ok(stream)).await;
            } else if let Ok(stream) = stream.into_std() {
                let _ = http.send(stream);
            }
        });
    }
}

/// Looks at the first bytes without taking them.
async fn begins_as_grpc(stream: &UnixStream) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        stream.readable().await?;
        let peeked = stream.try_io(Interest::READABLE, || {
            let (count, _) = rustix::net::recv(stream, &mut first, RecvFlags::PEEK)?;
            Ok(count)
        });
        match peeked {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) if first[..count] != PREFACE[..count] => return Ok(false),
            Ok(count) if count == PREFACE.len() => return Ok(true),
            // A part of the preface; the rest is on its way.
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    async fn told(pieces: &[&[u8]]) -> io::Result<bool> {
        let (mut client, server) = UnixStream::pair().unwrap();
        let look = tokio::spawn(async move { begins_as_grpc(&server).await });
        for piece in pieces {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(client);
        look.await.unwrap()
    }

    #[tokio::test]
    async fn tells_protocols_apart() {
        assert!(told(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]).await.unwrap());
        assert!(!told(&[b"GET /info HTTP/1.1\r\n"]).await.unwrap());
        assert!(!told(&[b"PUT /x HTTP/1.1\r\n"]).await.unwrap());
        assert!(told(&[]).await.is_err());
    }
}
