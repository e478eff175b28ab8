//! The server with a target made up here: what needs timeouts, windows or a client that does as it likes.

#![expect(
    clippy::unwrap_used,
    reason = "a test may unwrap: the panic is its report"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use crioxide_cri_api::v1;
use crioxide_engine::ports::{
    OutputStream, PortConnection, PortResult, Session, SessionEnd, SessionInput, SessionOutput,
};
use crioxide_engine::{EngineError, ErrorKind};
use crioxide_streaming::spdy::{Control, Deflater, FrameReader, Received, data_header};
use crioxide_streaming::{StreamServer, StreamSettings, Streaming, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes that the made-up process writes.
const OUTPUT: usize = 4 << 20;

/// How long a test waits at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Its process writes, takes no input, and then ends or stays.
#[derive(Debug, Default)]
struct MadeUp {
    output: usize,
    stays: bool,
    dropped: Arc<AtomicBool>,
}

struct Zeros(usize);

#[async_trait]
impl SessionOutput for Zeros {
    async fn next(&mut self) -> PortResult<Option<(OutputStream, Bytes)>> {
        let count = self.0.min(32 << 10);
        self.0 -= count;
        Ok((count > 0).then(|| (OutputStream::Stdout, vec![0; count].into())))
    }
}

struct Stuck;

#[async_trait]
impl SessionInput for Stuck {
    async fn write(&mut self, _: &[u8]) -> PortResult<()> {
        std::future::pending().await
    }

    async fn end(&mut self) -> PortResult<()> {
        Ok(())
    }
}

struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[async_trait]
impl Target for MadeUp {
    async fn exec(&self, _: &v1::ExecRequest) -> Result<Session, EngineError> {
        let (stays, flag) = (self.stays, Flag(Arc::clone(&self.dropped)));
        Ok(Session {
            input: Some(Box::new(Stuck)),
            output: Box::new(Zeros(self.output)),
            terminal: None,
            end: SessionEnd::Exit(Box::pin(async move {
                let _flag = flag;
                if stays {
                    std::future::pending::<()>().await;
                }
                Ok(0)
            })),
            detachable: false,
        })
    }

    async fn attach(&self, _: &v1::AttachRequest) -> Result<Session, EngineError> {
        Err(EngineError::new(
            ErrorKind::NotFound,
            "nothing to attach to",
        ))
    }

    async fn connect(&self, _: &str, _: u16) -> Result<Box<dyn PortConnection>, EngineError> {
        Err(EngineError::new(ErrorKind::NotFound, "no ports"))
    }
}

async fn serve(target: MadeUp, idle: Duration, creation: Duration) -> Streaming {
    let server = StreamServer::bind(StreamSettings {
        address: "127.0.0.1".to_owned(),
        port: 0,
        idle_timeout: idle,
        creation_timeout: creation,
        tls: None,
    });
    let server = server.await.unwrap();
    let streaming = server.streaming();
    tokio::spawn(server.serve(Arc::new(target)));
    streaming
}

struct Client {
    frames: FrameReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    deflater: Deflater,
}

impl Client {
    async fn connect(streaming: &Streaming) -> Self {
        let url = streaming
            .exec(v1::ExecRequest {
                container_id: "c".to_owned(),
                stdin: true,
                stdout: true,
                ..Default::default()
            })
            .unwrap();
        let (host, path) = url
            .strip_prefix("http://")
            .unwrap()
            .split_once('/')
            .unwrap();
        let mut tcp = TcpStream::connect(host).await.unwrap();
        let request = format!(
            "POST /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "));
        let (read, write) = tcp.into_split();
        Self {
            frames: FrameReader::new(read),
            write,
            deflater: Deflater::new().unwrap(),
        }
    }

    async fn control(&mut self, control: Control) {
        let mut bytes = Vec::new();
        control.encode(&mut self.deflater, &mut bytes).unwrap();
        self.write.write_all(&bytes).await.unwrap();
    }

    /// Streams 1 (error), 3 (stdin) and 5 (stdout).
    async fn open_all(&mut self) {
        for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
            let headers = vec![("streamtype".to_owned(), kind.to_owned())];
            self.control(Control::Open {
                stream,
                fin: false,
                headers,
            })
            .await;
        }
    }

    /// What arrives on stdout and the error stream until both have ended, or nothing comes for a while.
    async fn read(&mut self, quiet: Duration) -> (usize, Vec<u8>) {
        let (mut count, mut error, mut open) = (0, Vec::new(), 2);
        while open > 0 {
            let Ok(next) = tokio::time::timeout(quiet, self.frames.next()).await else {
                break;
            };
            let Some(received) = next.unwrap() else { break };
            if let Received::Data { stream, bytes, fin } = received {
                match stream {
                    5 => count += bytes.len(),
                    _ => error.extend_from_slice(&bytes),
                }
                open -= u32::from(fin);
            }
        }
        (count, error)
    }

    /// Waits for this many bytes of stdout; more may come with them.
    async fn read_at_least(&mut self, least: usize) -> usize {
        let mut count = 0;
        while count < least {
            let next = tokio::time::timeout(PATIENCE, self.frames.next()).await;
            if let Some(Received::Data {
                stream: 5, bytes, ..
            }) = next.unwrap().unwrap()
            {
                count += bytes.len();
            }
        }
        count
    }

    async fn closed(&mut self) -> bool {
        let ended = async { while let Ok(Some(_)) = self.frames.next().await {} };
        tokio::time::timeout(PATIENCE, ended).await.is_ok()
    }
}

const SOON: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_client_that_opens_no_streams_is_not_waited_for() {
    let streaming = serve(MadeUp::default(), Duration::ZERO, SOON).await;
    let mut client = Client::connect(&streaming).await;
    assert!(client.closed().await);
}

#[tokio::test]
async fn a_silent_session_ends() {
    let target = MadeUp {
        stays: true,
        ..Default::default()
    };
    let dropped = Arc::clone(&target.dropped);
    let streaming = serve(target, SOON, PATIENCE).await;
    let mut client = Client::connect(&streaming).await;
    client.open_all().await;
    assert!(client.closed().await);
    assert!(dropped.load(Ordering::Acquire));
}

#[tokio::test]
async fn a_client_that_reads_late_gets_everything() {
    let target = MadeUp {
        output: OUTPUT,
        ..Default::default()
    };
    let streaming = serve(target, Duration::ZERO, PATIENCE).await;
    let mut client = Client::connect(&streaming).await;
    client.open_all().await;
    // The process has ended long ago when the client still sends; a closed socket would answer that with a reset.
    for id in 0..50 {
        client.control(Control::Ping { id: 2 * id + 1 }).await;
        client
            .write
            .write_all(&data_header(3, 1000, false))
            .await
            .unwrap();
        client.write.write_all(&[b'x'; 1000]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let (count, error) = client.read(PATIENCE).await;
    assert_eq!(
        (count, &error[..]),
        (OUTPUT, &br#"{"status":"Success"}"#[..])
    );
}

#[tokio::test]
async fn windows_are_obeyed() {
    let target = MadeUp {
        output: OUTPUT,
        ..Default::default()
    };
    let streaming = serve(target, Duration::ZERO, PATIENCE).await;
    let mut client = Client::connect(&streaming).await;
    client.control(Control::InitialWindow { bytes: 1000 }).await;
    client.open_all().await;
    assert_eq!(client.read_at_least(1000).await, 1000);
    assert_eq!(client.read(SOON).await.0, 0);
    client
        .control(Control::Window {
            stream: 5,
            more: 10,
        })
        .await;
    assert_eq!(client.read_at_least(10).await, 10);
    assert_eq!(client.read(SOON).await.0, 0);
    let more = 2 * OUTPUT as u32;
    client.control(Control::Window { stream: 5, more }).await;
    let (count, error) = client.read(PATIENCE).await;
    assert_eq!(count, OUTPUT - 1010);
    assert_eq!(error, br#"{"status":"Success"}"#);
}

#[tokio::test]
async fn a_death_is_seen_although_nobody_takes_the_input() {
    let target = MadeUp {
        stays: true,
        ..Default::default()
    };
    let dropped = Arc::clone(&target.dropped);
    let streaming = serve(target, Duration::ZERO, PATIENCE).await;
    let mut client = Client::connect(&streaming).await;
    client.open_all().await;
    // More than is taken in before reading stops, and no more than then waits in the kernel: the end of a connection
    // arrives behind its data.
    let frame = [&data_header(3, 32 << 10, false)[..], &[0; 32 << 10]].concat();
    for _ in 0..8 {
        client.write.write_all(&frame).await.unwrap();
    }
    assert!(!dropped.load(Ordering::Acquire));
    drop(client);
    let seen = async {
        while !dropped.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
}

#[tokio::test]
async fn too_many_addresses_are_refused() {
    let streaming = serve(MadeUp::default(), Duration::ZERO, PATIENCE).await;
    let request = v1::PortForwardRequest {
        pod_sandbox_id: "p".to_owned(),
        port: Vec::new(),
    };
    for _ in 0..1000 {
        streaming.port_forward(request.clone()).unwrap();
    }
    let refusal = streaming.port_forward(request).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "maximum number of in-flight requests exceeded"
    );
}
