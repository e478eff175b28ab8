//! CRI over gRPC: the two services, their status codes, and a span and log lines around each call.
//!
//! The only crate that knows gRPC. What an rpc does is in the engine; here requests are taken apart, answers put
//! together, and errors given their codes.
#![forbid(unsafe_code)]

mod accept;
mod authority;
mod deadline;
mod image;
mod rpc;
mod runtime;
mod status;
mod stream;

use std::future::Future;

use crioxide_cri_api::v1::{
    image_service_server::ImageServiceServer, runtime_service_server::RuntimeServiceServer,
};
use crioxide_engine::Engine;
use crioxide_streaming::Streaming;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
};
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

/// Answers calls on `listener` until `shutdown` resolves, then finishes those under way.
///
/// # Errors
/// When the transport fails as a whole; single connections do not end it.
pub async fn serve(
    listener: UnixListener,
    services: Services,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
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
    let (sender, accepted) = mpsc::channel(1);
    let accepting = tokio::spawn(accept::run(listener, sender, http));
    let connections =
        ReceiverStream::new(accepted).map(|stream| stream.map(authority::AnyAuthority::new));
    let served = Server::builder()
        .add_service(deadline::Deadline(runtime))
        .add_service(deadline::Deadline(image))
        .serve_with_incoming_shutdown(connections, shutdown)
        .await;
    accepting.abort();
    served
}
