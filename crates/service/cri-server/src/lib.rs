//! CRI over gRPC: the two services, their status codes, and a span and log lines around each call.
//!
//! The only crate that knows gRPC. What an rpc does is in the engine; here requests are taken apart, answers put
//! together, and errors given their codes.
#![forbid(unsafe_code)]

mod accept;
mod authority;
mod deadline;
mod front;
mod image;
mod rpc;
mod runtime;
mod status;
mod stream;

use std::{
    future::Future,
    io,
    os::unix::net::UnixStream,
    pin::Pin,
    task::{Context, Poll},
};

use crioxide_cri_api::v1::{
    image_service_server::ImageServiceServer, runtime_service_server::RuntimeServiceServer,
};
use crioxide_engine::Engine;
use crioxide_streaming::Streaming;
use tokio::{net::UnixListener, runtime::Handle, sync::mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::transport::Server;

pub use runtime::NodeInfo;

/// Largest messages in both directions, bytes.
#[derive(Debug, Clone, Copy)]
pub struct MessageLimits {
    /// `grpc_max_recv_msg_size`.
    pub receive: usize,
    /// `grpc_max_send_msg_size`.
    pub send: usize,
}

/// What answers calls, and what they may ask of it.
#[derive(Debug)]
pub struct Services {
    /// Pods, containers and images.
    pub engine: Engine,
    /// What the node tells of itself.
    pub node: NodeInfo,
    /// Gives addresses for streams.
    pub streaming: Streaming,
    /// Sizes of messages.
    pub limits: MessageLimits,
    /// Gets the connections of clients that do not speak HTTP/2.
    pub http: mpsc::UnboundedSender<UnixStream>,
}

/// The server at work: a future that is done when it has ended.
#[derive(Debug)]
pub struct Serving(front::Front<Result<(), ServeError>>);

/// Why the server ended before it was asked to; single connections do not end it.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket cannot be listened on.
    #[error("listen for calls: {0}")]
    Listen(#[source] io::Error),
    /// The transport failed as a whole.
    #[error("serve calls: {0}")]
    Transport(#[source] tonic::transport::Error),
    /// A panic.
    #[error("the thread that serves calls failed inside")]
    Panicked,
}

impl Serving {
    /// Connections and calls at hand.
    #[must_use]
    pub fn tasks_alive(&self) -> usize {
        self.0.tasks_alive()
    }
}

impl Future for Serving {
    type Output = Result<(), ServeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = Pin::new(&mut self.0).poll(context);
        outcome.map(|outcome| outcome.unwrap_or(Err(ServeError::Panicked)))
    }
}

/// Answers calls on `listener` until `shutdown` resolves, then finishes those under way. Connections are served by a thread
/// of their own, what calls do by the caller's runtime.
///
/// # Errors
/// When the thread or its runtime cannot be had.
pub fn serve(
    listener: UnixListener,
    services: Services,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<Serving> {
    let daemon = Handle::current();
    // It belongs to the runtime that it was made in.
    let listener = listener.into_std()?;
    front::Front::start(move || answer_all(listener, services, daemon, shutdown)).map(Serving)
}

async fn answer_all(
    listener: std::os::unix::net::UnixListener,
    services: Services,
    daemon: Handle,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let Services {
        engine,
        node,
        streaming,
        limits,
        http,
    } = services;
    let runtime = RuntimeServiceServer::new(runtime::Runtime::new(engine.clone(), node, streaming))
        .max_decoding_message_size(limits.receive)
        .max_encoding_message_size(limits.send);
    let image = ImageServiceServer::new(image::Images::new(engine))
        .max_decoding_message_size(limits.receive)
        .max_encoding_message_size(limits.send);
    let listener = UnixListener::from_std(listener).map_err(ServeError::Listen)?;
    let (sender, accepted) = mpsc::channel(1);
    let accepting = tokio::spawn(accept::run(listener, sender, http));
    let connections =
        ReceiverStream::new(accepted).map(|stream| stream.map(authority::AnyAuthority::new));
    // Deadlines are kept on this thread: on their way between threads answers would come after the transport's.
    let served = Server::builder()
        .add_service(deadline::Deadline(front::Placed::new(
            runtime,
            daemon.clone(),
        )))
        .add_service(deadline::Deadline(front::Placed::new(image, daemon)))
        .serve_with_incoming_shutdown(connections, shutdown)
        .await;
    accepting.abort();
    served.map_err(ServeError::Transport)
}
