//! An HTTP server that does what a test tells it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Path with query.
    pub(crate) path: String,
    head: String,
}

/// What to answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Close the connection after this much of the body.
    cut: Option<usize>,
    hang: Hang,
    length: Length,
    /// Send so many bytes, head included, and then wait this long.
    drip: Option<(usize, Duration)>,
}

/// What the head says of the body's length.
#[derive(Debug, Clone, Copy)]
enum Length {
    True,
    Wrong(usize),
    /// The end of the connection is the end of the body.
    Untold,
    /// The body is all that is sent, without any head.
    NoHead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hang {
    No,
    BeforeHead,
    AfterHead,
}

pub(crate) type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A running server; ends when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// First byte of a `Range: bytes=N-`.
    pub(crate) fn range_start(&self) -> Option<usize> {
        self.header("range")?
            .strip_prefix("bytes=")?
            .split('-')
            .next()?
            .parse()
            .ok()
    }
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            cut: None,
            hang: Hang::No,
            length: Length::True,
            drip: None,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub(crate) fn of_length(mut self, length: usize) -> Self {
        self.length = Length::Wrong(length);
        self
    }

    pub(crate) fn without_length(mut self) -> Self {
        self.length = Length::Untold;
        self
    }

    /// These bytes instead of an answer.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        let mut reply = Self::new(0, bytes);
        reply.length = Length::NoHead;
        reply
    }

    pub(crate) fn drip(mut self, bytes: usize, pause: Duration) -> Self {
        self.drip = Some((bytes, pause));
        self
    }

    pub(crate) fn hang_before_head(mut self) -> Self {
        self.hang = Hang::BeforeHead;
        self
    }

    pub(crate) fn hang_after_head(mut self) -> Self {
        self.hang = Hang::AfterHead;
        self
    }
}

impl Server {
    pub(crate) async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0", handler).await
    }

    pub(crate) async fn start_at(
        address: &str,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, handler): (_, Arc<Handler>) = (requests.clone(), Arc::new(handler));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, handler.clone(), log.clone()));
            }
        });
        Self {
            address,
            requests,
            task,
        }
    }

    /// Everything asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How often a path with `part` in it was asked for.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.path.contains(part))
            .count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    handler: Arc<Handler>,
    log: Arc<Mutex<Vec<Request>>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
        if head.len() == 1 && !head[0].is_ascii_uppercase() {
            return None; // a TLS handshake
        }
    }
    let head = String::from_utf8(head).ok()?;
    let mut words = head.split_whitespace().skip(1);
    let request = Request {
        path: words.next()?.to_owned(),
        head: head.clone(),
    };
    log.lock().unwrap().push(request.clone());
    let reply = handler(&request);
    if reply.hang == Hang::BeforeHead {
        std::future::pending::<()>().await;
    }
    let mut answer = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", reply.status);
    match reply.length {
        Length::True => answer.push_str(&format!("content-length: {}\r\n", reply.body.len())),
        Length::Wrong(length) => answer.push_str(&format!("content-length: {length}\r\n")),
        Length::Untold | Length::NoHead => {}
    }
    for (name, value) in &reply.headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("\r\n");
    if matches!(reply.length, Length::NoHead) {
        answer.clear();
    }
    if let Some((bytes, pause)) = reply.drip {
        for piece in [answer.as_bytes(), &reply.body].concat().chunks(bytes) {
            stream.write_all(piece).await.ok()?;
            tokio::time::sleep(pause).await;
        }
        return stream.shutdown().await.ok();
    }
    stream.write_all(answer.as_bytes()).await.ok()?;
    if reply.hang == Hang::AfterHead {
        stream.flush().await.ok()?;
        std::future::pending::<()>().await;
    }
    let end = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
    stream.write_all(&reply.body[..end]).await.ok()?;
    stream.shutdown().await.ok()
}
