//! What a call past its client's deadline is answered with.
//!
//! The transport ends such a call too, but as CANCELLED: a client whose own clock is a little behind would take that for
//! somebody's wish. gRPC's code for it is DEADLINE_EXCEEDED.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tonic::{
    Status,
    body::Body,
    codegen::{
        Service,
        http::{HeaderMap, Request, Response},
    },
    server::NamedService,
};

/// How much earlier than the transport this is.
const MARGIN: Duration = Duration::from_millis(1);

/// A service whose calls end at their client's deadline.
#[derive(Debug, Clone)]
pub(crate) struct Deadline<S>(pub(crate) S);

impl<S: NamedService> NamedService for Deadline<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let limit = of_headers(request.headers());
        let call = self.0.call(request);
        let Some(limit) = limit else {
            return Box::pin(call);
        };
        let left = limit.saturating_sub(MARGIN);
        // A deadline too far away to be a time is none.
        let end = Instant::now().checked_add(left);
        Box::pin(async move {
            let late = async {
                match end {
                    _ if left.is_zero() => {}
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = call => answer,
                () = late => Ok(Status::deadline_exceeded("context deadline exceeded").into_http()),
            }
        })
    }
}

/// What is left of the client's time (`grpc-timeout` of the gRPC protocol), if it set a limit.
pub(crate) fn of_headers(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get("grpc-timeout")?.to_str().ok()?)
}

/// The same for a request whose headers have become metadata.
pub(crate) fn of_request<Q>(request: &tonic::Request<Q>) -> Option<Duration> {
    parse(request.metadata().get("grpc-timeout")?.to_str().ok()?)
}

fn parse(text: &str) -> Option<Duration> {
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

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn limits_of_the_wire() {
        assert_eq!(parse("120S"), Some(Duration::from_secs(120)));
        assert_eq!(parse("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(
            parse("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        for bad in ["", "S", "1x", "-1S", "é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    /// Answers after some time.
    #[derive(Clone)]
    struct Slow(Duration);

    impl Service<Request<Body>> for Slow {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let time = self.0;
            Box::pin(async move {
                if !time.is_zero() {
                    tokio::time::sleep(time).await;
                }
                Ok(Status::not_found("no").into_http())
            })
        }
    }

    async fn code(takes: Duration, limit: Option<&str>) -> Code {
        let mut request = Request::new(Body::empty());
        if let Some(limit) = limit {
            let limit = limit.parse().unwrap();
            request.headers_mut().insert("grpc-timeout", limit);
        }
        let answer = Deadline(Slow(takes)).call(request).await.unwrap();
        Status::from_header_map(answer.headers()).unwrap().code()
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_not_waited_for() {
        let (now, minute) = (Duration::ZERO, Duration::from_secs(60));
        assert_eq!(code(minute, Some("1S")).await, Code::DeadlineExceeded);
        assert_eq!(code(minute, Some("1n")).await, Code::DeadlineExceeded);
        assert_eq!(code(minute, Some("2M")).await, Code::NotFound);
        assert_eq!(code(minute, Some("99999999H")).await, Code::NotFound);
        assert_eq!(code(minute, None).await, Code::NotFound);
        // What needs no time is answered, however short the deadline.
        assert_eq!(code(now, Some("1n")).await, Code::NotFound);
    }
}
