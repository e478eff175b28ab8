//! A small HTTP/1 server for the inspect and metrics endpoints.

use std::{convert::Infallible, future::Future, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

/// How long a client may take to say what it wants.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(5);

/// What a client gets.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Success.
    pub(crate) fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body: body.into(),
        }
    }

    /// A status with a line of text.
    pub(crate) fn text(status: StatusCode, text: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{text}\n").into_bytes(),
        }
    }

    /// There is no such thing here.
    pub(crate) fn not_found() -> Self {
        Self::text(StatusCode::NOT_FOUND, "404 page not found")
    }
}

/// Answers GET requests on one connection until the client leaves.
pub(crate) async fn serve<F, R>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answer: F,
) where
    F: Fn(String) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let path = request.uri().path().to_owned();
        let answer = match *request.method() {
            Method::GET | Method::HEAD => Some(answer(path)),
            _ => None,
        };
        async move {
            let answer = match answer {
                Some(answer) => answer.await,
                None => Answer::text(StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed"),
            };
            let mut response = Response::new(Full::new(Bytes::from(answer.body)));
            *response.status_mut() = answer.status;
            let kind = hyper::header::HeaderValue::from_static(answer.content_type);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = connection {
        tracing::debug!("HTTP connection ended: {error}");
    }
}
