//! The socket to which shims tell what happens, as they would to containerd (`services/events/ttrpc`, `types/event.proto`).
//!
//! Of all they tell only one thing cannot be learnt by asking: that memory ran out inside of a guest.

use std::sync::Arc;

use prost::Message;
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};

use crate::{
    frame::{Frame, REQUEST, RESPONSE},
    messages::{Any, Request, Response, Status},
};

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
const METHOD: &str = "Forward";
const OUT_OF_MEMORY: &str = "containerd.events.TaskOOM";

/// Connections at once; each shim has one. More wait.
const MOST_CONNECTIONS: usize = 1024;

/// gRPC's code for what is not there.
const UNIMPLEMENTED: i32 = 12;

/// A shim's message.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ForwardRequest {
    /// What happened.
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
}

/// An event, as far as it is read.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Envelope {
    /// The event itself.
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// `containerd.events.TaskOOM`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TaskOom {
    /// Container.
    #[prost(string, tag = "1")]
    pub container_id: String,
}

/// Takes events for ever, and tells the ids of containers that ran out of memory.
pub async fn serve(listener: UnixListener, out_of_memory: mpsc::UnboundedSender<String>) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    while let Ok(place) = room.clone().acquire_owned().await {
        // One that was aborted is no reason to stop; a full table of descriptors passes, and so does this pause.
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let trusted = connection
            .peer_cred()
            .is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw());
        if trusted {
            let told = out_of_memory.clone();
            tokio::spawn(async move {
                let _place = place;
                // A shim that talks nonsense loses its connection.
                let _ = take(connection, &told).await;
            });
        }
    }
}

async fn take(
    mut connection: UnixStream,
    out_of_memory: &mpsc::UnboundedSender<String>,
) -> std::io::Result<()> {
    while let Some(frame) = Frame::read(&mut connection).await? {
        if frame.kind != REQUEST {
            continue;
        }
        let request = Request::decode(frame.data.as_slice())?;
        let known = (request.service.as_str(), request.method.as_str()) == (SERVICE, METHOD);
        if known && let Some(id) = container_without_memory(&request.payload)? {
            let _ = out_of_memory.send(id);
        }
        let response = Response {
            status: (!known).then(|| Status {
                code: UNIMPLEMENTED,
                message: format!("/{}/{} is not there", request.service, request.method),
            }),
            payload: Vec::new(),
        };
        let answer = Frame {
            stream: frame.stream,
            kind: RESPONSE,
            data: response.encode_to_vec(),
        };
        if let Some(bytes) = answer.encode() {
            connection.write_all(&bytes).await?;
        }
    }
    Ok(())
}

fn container_without_memory(payload: &[u8]) -> Result<Option<String>, prost::DecodeError> {
    let event = ForwardRequest::decode(payload)?
        .envelope
        .and_then(|envelope| envelope.event);
    match event {
        Some(event) if event.type_url.rsplit('/').next() == Some(OUT_OF_MEMORY) => {
            Ok(Some(TaskOom::decode(event.value.as_slice())?.container_id))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(stream: u32, service: &str, type_url: &str, value: Vec<u8>) -> Vec<u8> {
        let event = Some(Any {
            type_url: type_url.to_owned(),
            value,
        });
        let payload = ForwardRequest {
            envelope: Some(Envelope { event }),
        };
        let request = Request {
            service: service.to_owned(),
            method: METHOD.to_owned(),
            payload: payload.encode_to_vec(),
            ..Request::default()
        };
        let frame = Frame {
            stream,
            kind: REQUEST,
            data: request.encode_to_vec(),
        };
        frame.encode().unwrap()
    }

    #[tokio::test]
    async fn memory_that_ran_out_is_told_and_everything_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let (sender, mut told) = mpsc::unbounded_channel();
        tokio::spawn(serve(UnixListener::bind(&path).unwrap(), sender));
        let mut shim = UnixStream::connect(&path).await.unwrap();
        let oom = TaskOom {
            container_id: "c1".into(),
        };
        let frames = [
            forward(1, SERVICE, "containerd.events.TaskStart", vec![0xff]),
            forward(3, SERVICE, OUT_OF_MEMORY, oom.encode_to_vec()),
            forward(5, "other.Service", OUT_OF_MEMORY, oom.encode_to_vec()),
        ];
        shim.write_all(&frames.concat()).await.unwrap();
        for (stream, code) in [(1, None), (3, None), (5, Some(UNIMPLEMENTED))] {
            let frame = Frame::read(&mut shim).await.unwrap().unwrap();
            let response = Response::decode(frame.data.as_slice()).unwrap();
            assert_eq!((frame.stream, frame.kind), (stream, RESPONSE));
            assert_eq!(response.status.map(|status| status.code), code);
        }
        assert_eq!(told.recv().await.unwrap(), "c1");
        assert!(told.is_empty());
        // Nonsense ends the connection and no other.
        shim.write_all(&forward(7, SERVICE, OUT_OF_MEMORY, vec![0x0a, 0x7f]))
            .await
            .unwrap();
        assert_eq!(Frame::read(&mut shim).await.ok().flatten(), None);
        let mut other = UnixStream::connect(&path).await.unwrap();
        let frame = forward(1, SERVICE, OUT_OF_MEMORY, oom.encode_to_vec());
        other.write_all(&frame).await.unwrap();
        assert_eq!(told.recv().await.unwrap(), "c1");
    }
}
