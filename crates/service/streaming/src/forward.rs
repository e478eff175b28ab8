//! Port-forward sessions: any number of connections to ports of one pod.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crioxide_engine::ports::PortConnection;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::socket::Gone;
use crate::spdy::{Headers, value};
use crate::target::Target;
use crate::transport::{Incoming, Receiver, Sender, Transport};

/// Pieces (of at most 32 KiB) that wait for one port.
const QUEUE: usize = 8;

/// Bytes read from a port at once.
const PIECE: usize = 32 << 10;

/// Most connections of one session.
const MOST_CONNECTIONS: usize = 1024;

/// How long a client may be silent on a connection that the port's side has ended.
const LINGER: Duration = Duration::from_secs(10);

/// What arrives on a data channel.
#[derive(Debug)]
enum Piece {
    Data(Bytes),
    End,
}

/// What all connections of a session share.
struct Session {
    sender: Sender,
    target: Arc<dyn Target>,
    pod: String,
}

/// Two channels of one connection that belong together.
#[derive(Debug, Default)]
struct Pair {
    error: Option<u32>,
    data: Option<(u32, mpsc::Receiver<Piece>)>,
    port: u16,
    since: Option<tokio::time::Instant>,
}

/// Serves SPDY, where the client opens a pair of streams for each connection.
pub(crate) async fn serve_streams(
    transport: Transport,
    target: Arc<dyn Target>,
    pod: String,
    creation_timeout: Duration,
) {
    let Transport {
        receiver,
        sender,
        gone,
    } = transport;
    let session = Arc::new(Session {
        sender,
        target,
        pod,
    });
    let streams = Streams {
        receiver,
        session,
        pairs: HashMap::new(),
        data: HashMap::new(),
        connections: JoinSet::new(),
        creation_timeout,
    };
    streams.serve(&gone).await;
}

struct Streams {
    receiver: Receiver,
    session: Arc<Session>,
    /// Pairs that are not complete, by the client's names.
    pairs: HashMap<String, Pair>,
    /// Where data goes.
    data: HashMap<u32, mpsc::Sender<Piece>>,
    /// To drop it ends them all.
    connections: JoinSet<()>,
    creation_timeout: Duration,
}

impl Streams {
    async fn serve(mut self, gone: &Gone) {
        let mut check = tokio::time::interval(self.creation_timeout.max(Duration::from_millis(1)));
        loop {
            tokio::select! {
                incoming = self.receiver.next() => {
                    let Some(incoming) = incoming else { return };
                    if self.take(incoming, gone).await.is_none() {
                        return;
                    }
                }
                _ = self.connections.join_next(), if !self.connections.is_empty() => {}
                _ = check.tick(), if !self.pairs.is_empty() => {
                    if self.drop_old_pairs().await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// `None` when the session is over.
    async fn take(&mut self, incoming: Incoming, gone: &Gone) -> Option<()> {
        match incoming {
            Incoming::Opened { id, headers, end } => {
                if let Err(problem) = self.open(id, &headers, end) {
                    tracing::debug!("A port-forward stream is refused: {problem}");
                    self.data.remove(&id);
                    self.receiver.forget(id);
                    self.session.sender.reset(id).await.ok()?;
                }
            }
            Incoming::Data { id, bytes, end } => {
                let count = bytes.len();
                if let Some(queue) = self.data.get(&id) {
                    // The client is held up by its slowest connection, as there is one connection for all.
                    let sent = async {
                        if !bytes.is_empty() {
                            queue.send(Piece::Data(bytes)).await?;
                        }
                        if end {
                            queue.send(Piece::End).await?;
                        }
                        Ok::<_, mpsc::error::SendError<Piece>>(())
                    };
                    let sent = tokio::select! {
                        sent = sent => sent,
                        () = gone.wait() => return None,
                    };
                    if end || sent.is_err() {
                        self.data.remove(&id);
                    }
                    if sent.is_err() {
                        self.session.sender.taken(id, count);
                    }
                } else {
                    self.session.sender.taken(id, count);
                }
            }
            // The connection sees that its queue has ended without an end mark.
            Incoming::Reset { id } => drop(self.data.remove(&id)),
        }
        Some(())
    }

    fn open(&mut self, id: u32, headers: &Headers, end: bool) -> Result<(), String> {
        let port = value(headers, "port").ok_or("\"port\" header is required")?;
        let port: u16 = port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| format!("unable to parse {port:?} as a port"))?;
        let is_data = match value(headers, "streamtype") {
            Some("data") => true,
            Some("error") => false,
            other => return Err(format!("invalid stream type {other:?}")),
        };
        // Clients that give no name open the error stream right before the data stream.
        let name = match value(headers, "requestid") {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ if is_data => id.saturating_sub(2).to_string(),
            _ => id.to_string(),
        };
        if !self.pairs.contains_key(&name)
            && self.pairs.len() + self.connections.len() >= MOST_CONNECTIONS
        {
            return Err("too many connections".to_owned());
        }
        let pair = self.pairs.entry(name.clone()).or_default();
        pair.since.get_or_insert_with(tokio::time::Instant::now);
        pair.port = port;
        if is_data {
            if pair.data.is_some() {
                return Err("data stream already assigned".to_owned());
            }
            let (queue, pieces) = mpsc::channel(QUEUE);
            if end {
                // There is room in an empty queue.
                let _ = queue.try_send(Piece::End);
            } else {
                self.data.insert(id, queue);
            }
            pair.data = Some((id, pieces));
        } else {
            if pair.error.is_some() {
                return Err("error stream already assigned".to_owned());
            }
            pair.error = Some(id);
        }
        self.session
            .sender
            .accept(id)
            .ok_or("the client takes no answers")?;
        if pair.error.is_some() && pair.data.is_some() {
            let pair = self.pairs.remove(&name).unwrap_or_default();
            if let (Some(error), Some((data, pieces))) = (pair.error, pair.data) {
                let session = Arc::clone(&self.session);
                self.connections
                    .spawn(async move { session.connect(pair.port, data, error, pieces).await });
            }
        }
        Ok(())
    }

    async fn drop_old_pairs(&mut self) -> Option<()> {
        let old = |pair: &Pair| {
            pair.since
                .is_some_and(|since| since.elapsed() >= self.creation_timeout)
        };
        let names: Vec<String> = self
            .pairs
            .iter()
            .filter(|(_, pair)| old(pair))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let pair = self.pairs.remove(&name)?;
            let message = format!("(request={name}) timed out waiting for streams");
            let sender = &self.session.sender;
            if let Some(error) = pair.error {
                sender.data(error, message.into()).await.ok()?;
                sender.end(error).await.ok()?;
            }
            if let Some((data, _)) = pair.data {
                self.data.remove(&data);
                self.receiver.forget(data);
                sender.reset(data).await.ok()?;
            }
        }
        Some(())
    }
}

/// Serves a WebSocket with two channels for each port that was asked for.
pub(crate) async fn serve_channels(
    transport: Transport,
    target: Arc<dyn Target>,
    pod: String,
    ports: &[u16],
) {
    let Transport {
        mut receiver,
        sender,
        gone,
    } = transport;
    let session = Arc::new(Session {
        sender,
        target,
        pod,
    });
    let mut queues = HashMap::new();
    let mut connections = JoinSet::new();
    for (at, port) in (0_u32..).zip(ports.iter().copied()) {
        let (data, error) = (2 * at, 2 * at + 1);
        for channel in [data, error] {
            let number = Bytes::copy_from_slice(&port.to_le_bytes());
            if session.sender.data(channel, number).await.is_err() {
                return;
            }
        }
        let (queue, pieces) = mpsc::channel(QUEUE);
        queues.insert(data, queue);
        let session = Arc::clone(&session);
        connections.spawn(async move { session.connect(port, data, error, pieces).await });
    }
    let mut closing = false;
    loop {
        tokio::select! {
            incoming = receiver.next() => match incoming {
                Some(Incoming::Data { id, bytes, .. }) if !bytes.is_empty() => {
                    if let Some(queue) = queues.get(&id) {
                        tokio::select! {
                            sent = queue.send(Piece::Data(bytes)) => {
                                if sent.is_err() {
                                    queues.remove(&id);
                                }
                            }
                            () = gone.wait() => return,
                        }
                    }
                }
                Some(_) => {}
                None => return,
            },
            _ = connections.join_next(), if !connections.is_empty() => {}
            () = std::future::ready(()), if connections.is_empty() && !closing => {
                closing = true;
                if session.sender.close().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// How one direction of a connection came to its end.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// Orderly.
    Ended,
    /// The connection is of no use any more.
    Broken,
}

impl Session {
    /// One connection from its start to its end.
    async fn connect(&self, port: u16, data: u32, error: u32, pieces: mpsc::Receiver<Piece>) {
        let connected = self.target.connect(&self.pod, port).await;
        let way = match connected {
            Ok(connection) => self.copy(connection, data, pieces).await,
            Err(problem) => {
                tracing::debug!("Port {port} of pod {} is not reached: {problem}", self.pod);
                let text = format!(
                    "error forwarding port {port} to pod {}, uid : {problem}",
                    self.pod
                );
                // The client may be gone.
                let _ = self.sender.data(error, text.into()).await;
                Way::Broken
            }
        };
        let _ = self.sender.end(error).await;
        if way == Way::Broken {
            let _ = self.sender.reset(data).await;
        }
    }

    async fn copy(
        &self,
        connection: Box<dyn PortConnection>,
        data: u32,
        mut pieces: mpsc::Receiver<Piece>,
    ) -> Way {
        let (mut from, mut to) = tokio::io::split(connection);
        let out = async {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(PIECE);
                match from.read_buf(&mut buffer).await {
                    Ok(0) => break,
                    Ok(_) => {
                        let bytes = buffer.split().freeze();
                        if self.sender.data(data, bytes).await.is_err() {
                            return Way::Broken;
                        }
                    }
                    Err(_) => return Way::Broken,
                }
            }
            match self.sender.end(data).await {
                Ok(()) => Way::Ended,
                Err(_) => Way::Broken,
            }
        };
        tokio::pin!(out);
        let mut out_ended = false;
        loop {
            let piece = tokio::select! {
                way = &mut out, if !out_ended => {
                    if way == Way::Broken {
                        return way;
                    }
                    out_ended = true;
                    continue;
                }
                piece = pieces.recv() => piece,
                () = tokio::time::sleep(LINGER), if out_ended => return Way::Broken,
            };
            let passed_on = match piece {
                Some(Piece::Data(bytes)) => {
                    let written = async {
                        to.write_all(&bytes).await.ok()?;
                        self.sender.taken(data, bytes.len());
                        Some(())
                    };
                    tokio::pin!(written);
                    loop {
                        tokio::select! {
                            written = &mut written => break written,
                            way = &mut out, if !out_ended => {
                                if way == Way::Broken {
                                    break None;
                                }
                                out_ended = true;
                            }
                        }
                    }
                }
                Some(Piece::End) => {
                    if to.shutdown().await.is_err() {
                        return Way::Broken;
                    }
                    return if out_ended { Way::Ended } else { out.await };
                }
                // The client gave it up.
                None => None,
            };
            if passed_on.is_none() {
                return Way::Broken;
            }
        }
    }
}
