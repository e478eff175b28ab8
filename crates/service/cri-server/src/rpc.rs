//! What surrounds every call: a span with a request id, and CRI-O's debug lines.

use std::{
    fmt::Debug,
    future::Future,
    time::{Duration, Instant},
};

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

/// What is left of the client's deadline (`grpc-timeout` of the gRPC protocol), if it set one.
pub(crate) fn deadline<Q>(request: &Request<Q>) -> Option<Duration> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    parse_timeout(text)
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount.saturating_mul(3600)),
        "M" => Duration::from_secs(amount.saturating_mul(60)),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_the_wire() {
        assert_eq!(parse_timeout("120S"), Some(Duration::from_secs(120)));
        assert_eq!(parse_timeout("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(
            parse_timeout("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for bad in ["", "S", "1x", "-1S", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }
}
