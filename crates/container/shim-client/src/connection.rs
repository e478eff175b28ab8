//! One connection to a shim, with any number of calls under way.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prost::Message;
use tokio::{
    io::AsyncWriteExt as _,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    ShimError,
    frame::{Frame, MOST_DATA, REQUEST, RESPONSE},
    messages::{KeyValue, Request, Response},
};

/// Requests that may wait to be written. A shim that reads none holds its callers up, not us.
const QUEUE: usize = 32;

/// The header that keeps the ids of several users of one shim apart.
const NAMESPACE_HEADER: &str = "containerd-namespace-ttrpc";

/// The connection. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    namespace: String,
    requests: mpsc::Sender<Vec<u8>>,
    calls: Arc<Mutex<Calls>>,
    ended: watch::Receiver<bool>,
    tasks: [JoinHandle<()>; 2],
}

/// A call that is to be made.
pub(crate) struct Call<'a> {
    pub(crate) service: &'static str,
    pub(crate) method: &'static str,
    pub(crate) payload: &'a [u8],
    /// `None` waits for ever.
    pub(crate) timeout: Option<Duration>,
}

/// Who waits for which answer.
#[derive(Debug, Default)]
struct Calls {
    last: u32,
    open: HashMap<u32, oneshot::Sender<Vec<u8>>>,
    ended: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Connection {
    /// Takes over a socket.
    pub(crate) fn new(socket: UnixStream, namespace: &str) -> Self {
        let (reader, writer) = socket.into_split();
        let (requests, queue) = mpsc::channel(QUEUE);
        let (end, ended) = watch::channel(false);
        let calls = Arc::new(Mutex::new(Calls::default()));
        let reading = tokio::spawn(read(reader, calls.clone(), end));
        let writing = tokio::spawn(write(writer, queue));
        Self {
            namespace: namespace.to_owned(),
            requests,
            calls,
            ended,
            tasks: [reading, writing],
        }
    }

    /// Returns when the shim has closed it.
    pub(crate) async fn ended(&self) {
        // The sender goes with the connection, too.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Whether it has.
    pub(crate) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Makes a call and returns the bytes of its answer.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Vec<u8>, ShimError> {
        let method = call.method;
        let answered = self.exchange(&call);
        match call.timeout {
            None => answered.await,
            Some(timeout) => tokio::time::timeout(timeout, answered)
                .await
                .unwrap_or(Err(ShimError::Silent { method, timeout })),
        }
    }

    async fn exchange(&self, call: &Call<'_>) -> Result<Vec<u8>, ShimError> {
        let method = call.method;
        let gone = || ShimError::Gone { method };
        let (answer, waiting) = oneshot::channel();
        let request = Request {
            service: call.service.to_owned(),
            method: method.to_owned(),
            payload: call.payload.to_vec(),
            timeout_nano: call.timeout.map_or(0, |timeout| {
                i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX)
            }),
            metadata: vec![KeyValue {
                key: NAMESPACE_HEADER.to_owned(),
                value: self.namespace.clone(),
            }],
        };
        let data = request.encode_to_vec();
        let place = self.requests.reserve().await.map_err(|_| gone())?;
        // Forgets the call also when the caller gives up.
        let _open = {
            // Held until the request is in the queue: shims refuse a number that comes after a higher one.
            let mut all = locked(&self.calls);
            let stream = all.next_stream().ok_or_else(gone)?;
            let length = data.len();
            let frame = Frame {
                stream,
                kind: REQUEST,
                data,
            };
            let bytes = frame.encode().ok_or(ShimError::TooLong { length })?;
            all.last = stream;
            all.open.insert(stream, answer);
            place.send(bytes);
            Open {
                calls: &self.calls,
                stream,
            }
        };
        let data = waiting.await.map_err(|_| gone())?;
        let malformed = |source| ShimError::Malformed { method, source };
        let response = Response::decode(data.as_slice()).map_err(malformed)?;
        match response.status {
            Some(status) if status.code != 0 => Err(ShimError::Refused {
                method,
                code: status.code,
                message: status.message,
            }),
            _ => Ok(response.payload),
        }
    }
}

/// A call under way.
struct Open<'a> {
    calls: &'a Mutex<Calls>,
    stream: u32,
}

impl Calls {
    /// A number for the next call. `None` when the connection has ended.
    fn next_stream(&self) -> Option<u32> {
        if self.ended {
            return None;
        }
        // Odd numbers are the client's; one that is still open after all others were used is passed over.
        let mut stream = next(self.last);
        while self.open.contains_key(&stream) {
            stream = next(stream);
        }
        Some(stream)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        locked(self.calls).open.remove(&self.stream);
    }
}

fn next(stream: u32) -> u32 {
    stream.wrapping_add(if stream == 0 { 1 } else { 2 })
}

fn locked(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    // Nothing is left half-changed by a panic while it is held.
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(mut reader: OwnedReadHalf, calls: Arc<Mutex<Calls>>, end: watch::Sender<bool>) {
    while let Ok(Some(frame)) = Frame::read(&mut reader).await {
        // What is no response belongs to streams, which we never begin.
        if frame.kind != RESPONSE || frame.data.len() > MOST_DATA {
            continue;
        }
        // One that nobody waits for any more came too late.
        if let Some(waiting) = locked(&calls).open.remove(&frame.stream) {
            let _ = waiting.send(frame.data);
        }
    }
    let mut calls = locked(&calls);
    calls.ended = true;
    calls.open.clear();
    drop(calls);
    end.send_replace(true);
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = queue.recv().await {
        // The reader sees the end of a broken connection.
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::Status;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn numbers_arrive_in_their_order() {
        const CALLS: usize = 400;
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let connection = Arc::new(Connection::new(ours, "default"));
        let calls: Vec<_> = (0..CALLS)
            .map(|_| {
                let connection = connection.clone();
                tokio::spawn(async move { connection.call(call("M", None)).await })
            })
            .collect();
        let mut last = 0;
        for _ in 0..CALLS {
            let (stream, _) = received(&mut theirs).await;
            assert!(stream > last, "{stream} after {last}");
            last = stream;
        }
        calls.iter().for_each(JoinHandle::abort);
    }

    fn call(method: &'static str, timeout: Option<Duration>) -> Call<'static> {
        Call {
            service: "s",
            method,
            payload: b"p",
            timeout,
        }
    }

    async fn received(socket: &mut UnixStream) -> (u32, Request) {
        let frame = Frame::read(socket).await.unwrap().unwrap();
        let request = Request::decode(frame.data.as_slice()).unwrap();
        (frame.stream, request)
    }

    async fn answer(socket: &mut UnixStream, stream: u32, response: &Response) {
        let frame = Frame {
            stream,
            kind: RESPONSE,
            data: response.encode_to_vec(),
        };
        socket.write_all(&frame.encode().unwrap()).await.unwrap();
    }

    fn payload(text: &str) -> Response {
        Response {
            status: None,
            payload: text.as_bytes().to_vec(),
        }
    }

    #[tokio::test]
    async fn answers_find_their_calls_in_any_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let connection = Connection::new(ours, "n");
        let server = async {
            let (first, request) = received(&mut theirs).await;
            assert_eq!((request.method.as_str(), request.timeout_nano), ("A", 0));
            assert_eq!(request.metadata[0].value, "n");
            let (second, request) = received(&mut theirs).await;
            assert_eq!(request.method, "B");
            assert_eq!(request.timeout_nano, 60_000_000_000);
            assert_eq!((first, second), (1, 3));
            answer(&mut theirs, 99, &payload("stray")).await;
            answer(&mut theirs, second, &payload("b")).await;
            answer(&mut theirs, first, &payload("a")).await;
        };
        let minute = Some(Duration::from_secs(60));
        let (a, b, ()) = tokio::join!(
            connection.call(call("A", None)),
            connection.call(call("B", minute)),
            server
        );
        assert_eq!((a.unwrap(), b.unwrap()), (b"a".to_vec(), b"b".to_vec()));
    }

    #[tokio::test]
    async fn refusals_ends_and_nonsense_are_told_apart() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let connection = Connection::new(ours, "n");
        let server = async {
            let (stream, _) = received(&mut theirs).await;
            let status = Some(Status {
                code: 5,
                message: "no such task".into(),
            });
            let refusal = Response {
                status,
                payload: Vec::new(),
            };
            answer(&mut theirs, stream, &refusal).await;
            let (stream, _) = received(&mut theirs).await;
            let frame = Frame {
                stream,
                kind: RESPONSE,
                data: vec![0xff; 3],
            };
            theirs.write_all(&frame.encode().unwrap()).await.unwrap();
            received(&mut theirs).await;
            drop(theirs);
        };
        let client = async {
            let refused = connection.call(call("A", None)).await.unwrap_err();
            assert!(refused.is_not_found() && refused.to_string() == "no such task");
            let malformed = connection.call(call("B", None)).await.unwrap_err();
            assert!(matches!(malformed, ShimError::Malformed { .. }));
            let gone = connection.call(call("C", None)).await.unwrap_err();
            assert!(gone.is_gone());
            connection.ended().await;
            assert!(
                connection
                    .call(call("D", None))
                    .await
                    .unwrap_err()
                    .is_gone()
            );
        };
        tokio::join!(client, server);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shim_that_reads_nothing_does_not_hold_callers_for_ever() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let connection = Connection::new(ours, "n");
        let large = vec![0; MOST_DATA / 2];
        for _ in 0..QUEUE + 2 {
            let call = Call {
                payload: &large,
                ..call("A", Some(Duration::from_secs(1)))
            };
            assert!(connection.call(call).await.unwrap_err().is_silent());
        }
        assert!(locked(&connection.calls).open.is_empty());
    }
}
