//! CRI over gRPC: the two services, their status codes, and a span and log lines around each call.
//!
//! The only crate that knows gRPC. What an rpc does is in the engine; here requests are taken apart, answers put
//! together, and errors given their codes.
#![forbid(unsafe_code)]

mod authority;
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
use tokio::net::UnixListener;
use tokio_stream::{StreamExt as _, wrappers::UnixListenerStream};
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

/// Answers calls on `listener` until `shutdown` resolves, then finishes those under way.
///
/// # Errors
/// When the transport fails as a whole; single connections do not end it.
pub async fn serve(
    listener: UnixListener,
    engine: Engine,
    node: NodeInfo,
    streaming: Streaming,
    limits: MessageLimits,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let runtime = RuntimeServiceServer::new(runtime::Runtime::new(engine.clone(), node, streaming))
        .max_decoding_message_size(limits.receive)
        .max_encoding_message_size(limits.send);
    let image = ImageServiceServer::new(image::Images::new(engine))
        .max_decoding_message_size(limits.receive)
        .max_encoding_message_size(limits.send);
    let connections =
        UnixListenerStream::new(listener).map(|stream| stream.map(authority::AnyAuthority::new));
    Server::builder()
        .add_service(runtime)
        .add_service(image)
        .serve_with_incoming_shutdown(connections, shutdown)
        .await
}
