//! What surrounds every call: a span with a request id, and CRI-O's debug lines.

use std::{fmt::Debug, future::Future, time::Instant};

use tonic::{Request, Response, Status};
use tracing::Instrument as _;

/// Runs one unary call inside its span.
pub(crate) async fn unary<Q, A, F>(
    service: &'static str,
    rpc: &'static str,
    request: Request<Q>,
    call: impl FnOnce(Q) -> F,
) -> Result<Response<A>, Status>
where
    Q: Debug,
    A: Debug,
    F: Future<Output = Result<A, Status>>,
{
    let id = request_id();
    let span =
        tracing::info_span!("rpc", id = %id, name = %format_args!("/runtime.v1.{service}/{rpc}"));
    async move {
        let request = request.into_inner();
        tracing::debug!("Request: {request:?}");
        let metrics = crioxide_metrics::get();
        metrics.operations.add_one([rpc]);
        let begin = Instant::now();
        let result = call(request).await;
        metrics.operation_latency.observe(rpc, begin.elapsed());
        match &result {
            Ok(answer) => tracing::debug!("Response: {answer:?}"),
            Err(status) => {
                metrics.operation_errors.add_one([rpc]);
                tracing::debug!("Response error: {}", status.message());
            }
        }
        result.map(Response::new)
    }
    .instrument(span)
    .await
}

/// A version-4 shaped unique id, as CRI-O labels its requests.
fn request_id() -> String {
    let hex = crioxide_names::ContainerId::generate();
    let hex = hex.as_str();
    format!(
        "{}-{}-4{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    )
}
