//! What a status means, and bodies that are read whole.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde::Deserialize;

use super::FetchError;
use super::pace::Pace;
use super::request::{Failure, Retry, retry_after};

/// At most this much of an error's body is looked at (bytes).
const MAX_ERROR_BODY: u64 = 64 << 10;
/// At most this much of it is shown (characters).
const MAX_DETAIL: usize = 300;
/// An error's body that takes longer is not waited for.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
    #[serde(default)]
    details: String,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Passes success on and names every other answer.
pub(super) async fn check(what: &str, host: &str, response: Response) -> Result<Response, Failure> {
    let status = response.status();
    if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return Ok(response);
    }
    let pause = retry_after(response.headers());
    let detail = detail(response).await;
    let what = what.to_owned();
    let (error, retry) = match status.as_u16() {
        401 => (
            FetchError::Unauthorized {
                what,
                detail: format!("unauthorized{detail}"),
            },
            Retry::Never,
        ),
        403 => (FetchError::Denied { what, detail }, Retry::Never),
        404 => (FetchError::NotFound { what, detail }, Retry::Never),
        429 => (FetchError::TooManyRequests { what, detail }, pause),
        code => {
            let retry = if matches!(code, 408 | 500 | 502 | 503 | 504) {
                pause
            } else {
                Retry::Never
            };
            (
                FetchError::Status {
                    what,
                    host: host.to_owned(),
                    status: code,
                    detail,
                },
                retry,
            )
        }
    };
    Err(Failure { error, retry })
}

/// The registry's own words as `: code: message`, safe to print; empty if it has none.
async fn detail(response: Response) -> String {
    let body = tokio::time::timeout(ERROR_BODY_TIMEOUT, read_up_to(response, MAX_ERROR_BODY)).await;
    let Ok(Some(body)) = body else {
        return String::new();
    };
    let words = match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) => match body.errors.into_iter().next() {
            Some(ErrorEntry { code, message }) => format!("{}: {message}", code.to_lowercase()),
            None => body.details,
        },
        Err(_) => String::new(),
    };
    let words: String = words
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_DETAIL)
        .collect();
    if words.is_empty() {
        words
    } else {
        format!(": {words}")
    }
}

async fn read_up_to(mut response: Response, limit: u64) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if (body.len() + chunk.len()) as u64 > limit {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

/// Reads a whole body of at most `limit` bytes; 16 KiB of it must come within `progress`.
pub(super) async fn read_body(
    what: &str,
    host: &str,
    mut response: Response,
    limit: u64,
    progress: Duration,
) -> Result<Vec<u8>, FetchError> {
    let too_large = || FetchError::TooLarge {
        what: what.to_owned(),
        limit,
    };
    if response
        .content_length()
        .is_some_and(|length| length > limit)
    {
        return Err(too_large());
    }
    let mut body: Vec<u8> = Vec::new();
    let mut pace = Pace::new(progress);
    loop {
        let chunk = match pace.wait(response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Ok(body),
            Ok(Err(error)) => {
                return Err(FetchError::Interrupted {
                    what: what.to_owned(),
                    host: host.to_owned(),
                    received: body.len() as u64,
                    source: Some(error.without_url()),
                });
            }
            Err(phase) => {
                return Err(FetchError::Timeout {
                    what: what.to_owned(),
                    host: host.to_owned(),
                    phase,
                    limit: progress,
                });
            }
        };
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(too_large());
        }
        pace.received(chunk.len());
        body.extend_from_slice(&chunk);
    }
}
