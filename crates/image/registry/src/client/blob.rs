//! Blobs: streams that survive cut connections.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crioxide_names::Digest;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Response, StatusCode};

use super::pace::Pace;
use super::request::Target;
use super::{FetchError, OnStall, Phase, Repository};

/// Progress of this size makes earlier failures forgotten (bytes).
const FORGIVING_PROGRESS: u64 = 1 << 20;

/// The content of a blob, or a part of it, exactly as long as promised. Its digest is for the reader to verify.
#[derive(Debug)]
pub struct BlobStream {
    repository: Arc<Repository>,
    what: String,
    target: Target,
    /// Whether only a part is wanted, which the registry must be able to give.
    is_part: bool,
    start: u64,
    /// Where in the blob the next byte is.
    position: u64,
    end: u64,
    /// Bytes at the head of the response that are not wanted, as they were received before.
    skip: u64,
    response: Option<Response>,
    pace: Pace,
    failures: u32,
    /// The position of the last failure.
    failed_at: u64,
    delay: Duration,
}

impl Repository {
    /// Opens a blob of `size` bytes.
    pub async fn open_blob(
        self: &Arc<Self>,
        digest: &Digest,
        size: u64,
    ) -> Result<BlobStream, FetchError> {
        let what = format!("blob `{digest}` of `{}`", self.name());
        let target = Target::Below(format!("{}/blobs/{digest}", self.path));
        self.open(what, target, 0..size, false).await
    }

    /// Opens a part of a blob.
    ///
    /// # Errors
    /// [`FetchError::NoRanges`] where the registry gives blobs as a whole only.
    pub async fn open_blob_part(
        self: &Arc<Self>,
        digest: &Digest,
        part: Range<u64>,
    ) -> Result<BlobStream, FetchError> {
        let what = format!("a part of blob `{digest}` of `{}`", self.name());
        let target = Target::Below(format!("{}/blobs/{digest}", self.path));
        self.open(what, target, part, true).await
    }

    /// Opens a blob of `size` bytes that the registry says is at `url` on another server. That server is not shown any
    /// credentials, and the same rules hold for it as for redirects.
    pub async fn open_foreign_blob(
        self: &Arc<Self>,
        url: &str,
        size: u64,
    ) -> Result<BlobStream, FetchError> {
        let what = format!("a foreign blob of `{}`", self.name());
        let target = Target::Foreign(self.foreign_url(&what, url)?);
        self.open(what, target, 0..size, false).await
    }

    /// The size of a blob (bytes), as the registry says it.
    pub async fn blob_size(self: &Arc<Self>, digest: &Digest) -> Result<u64, FetchError> {
        let what = format!("size of blob `{digest}` of `{}`", self.name());
        let target = Target::Below(format!("{}/blobs/{digest}", self.path));
        // One byte is enough to be told the whole.
        let one = [(RANGE, "bytes=0-0".to_owned())];
        let response = self.get(&what, &target, &one).await?;
        let size = match response.status() {
            StatusCode::PARTIAL_CONTENT => response
                .headers()
                .get(CONTENT_RANGE)
                .and_then(|value| value.to_str().ok()?.rsplit('/').next()?.trim().parse().ok()),
            _ => response.content_length(),
        };
        size.ok_or_else(|| FetchError::Protocol {
            what,
            host: self.host.clone(),
            reason: "no length".to_owned(),
        })
    }

    async fn open(
        self: &Arc<Self>,
        what: String,
        target: Target,
        range: Range<u64>,
        is_part: bool,
    ) -> Result<BlobStream, FetchError> {
        let mut stream = BlobStream {
            repository: self.clone(),
            what,
            target,
            is_part,
            start: range.start,
            position: range.start,
            end: range.end,
            skip: 0,
            response: None,
            pace: Pace::new(self.client.settings.progress_timeout),
            failures: 0,
            failed_at: range.start,
            delay: self.client.settings.retry.first_delay,
        };
        stream.response = Some(stream.request().await?);
        Ok(stream)
    }
}

impl BlobStream {
    /// The next piece, never empty; `None` after exactly as many bytes as are due.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let piece = match self.piece().await {
                Ok(piece) => piece,
                Err(error) if self.may_resume(&error) => {
                    self.back_off(error).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(mut bytes) = piece else {
                return Ok(None);
            };
            let skipped = self.skip.min(bytes.len() as u64);
            self.skip -= skipped;
            let skipped = usize::try_from(skipped).unwrap_or(bytes.len());
            let bytes = bytes.split_off(skipped);
            self.position += bytes.len() as u64;
            if self.position > self.end {
                return Err(FetchError::TooLarge {
                    what: self.what.clone(),
                    limit: self.end - self.start,
                });
            }
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    fn may_resume(&self, error: &FetchError) -> bool {
        match error {
            FetchError::Interrupted { .. } => true,
            FetchError::Timeout {
                phase: Phase::Body | Phase::Trickle,
                ..
            } => self.repository.client.settings.on_stall == OnStall::Resume,
            _ => false,
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, FetchError> {
        if self.response.is_none() {
            self.response = Some(self.request().await?);
        }
        let Some(response) = &mut self.response else {
            return Ok(None);
        };
        match self.pace.wait(response.chunk()).await {
            Ok(Ok(Some(bytes))) => {
                self.pace.received(bytes.len());
                Ok(Some(bytes))
            }
            Ok(Ok(None)) if self.position == self.end => Ok(None),
            Ok(Ok(None)) => Err(self.interrupted(None)),
            Ok(Err(error)) => Err(self.interrupted(Some(error.without_url()))),
            Err(phase) => Err(FetchError::Timeout {
                what: self.what.clone(),
                host: self.repository.host.clone(),
                phase,
                limit: self.repository.client.settings.progress_timeout,
            }),
        }
    }

    fn interrupted(&self, source: Option<reqwest::Error>) -> FetchError {
        FetchError::Interrupted {
            what: self.what.clone(),
            host: self.repository.host.clone(),
            received: self.position - self.start,
            source,
        }
    }

    /// Asks for what is missing.
    async fn request(&mut self) -> Result<Response, FetchError> {
        let mut headers = Vec::new();
        if self.is_part {
            // The last byte is named, not the one behind it.
            let last = self.end.saturating_sub(1);
            headers.push((RANGE, format!("bytes={}-{last}", self.position)));
        } else if self.position > 0 {
            headers.push((RANGE, format!("bytes={}-", self.position)));
        }
        let response = self
            .repository
            .get(&self.what, &self.target, &headers)
            .await?;
        let at = match response.status() {
            StatusCode::PARTIAL_CONTENT => self.range_start(&response)?,
            _ if self.is_part => {
                return Err(FetchError::NoRanges {
                    what: self.what.clone(),
                    host: self.repository.host.clone(),
                });
            }
            _ => 0, // the server does not know ranges: what is known already is read again
        };
        let missing = self.end.saturating_sub(at);
        if let Some(length) = response.content_length()
            && length != missing
        {
            let reason = format!("it sends {length} bytes where {missing} are due");
            return Err(self.protocol(reason));
        }
        self.skip = self.position - at;
        Ok(response)
    }

    fn range_start(&self, response: &Response) -> Result<u64, FetchError> {
        let range = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|value| value.to_str().ok());
        let start = range
            .and_then(|range| range.strip_prefix("bytes "))
            .and_then(|range| range.split('-').next())
            .and_then(|start| start.trim().parse::<u64>().ok());
        match start {
            Some(start) if start <= self.position => Ok(start),
            _ => Err(self.protocol(format!(
                "a partial answer with Content-Range `{}`",
                range.unwrap_or_default()
            ))),
        }
    }

    fn protocol(&self, reason: String) -> FetchError {
        FetchError::Protocol {
            what: self.what.clone(),
            host: self.repository.host.clone(),
            reason,
        }
    }

    /// Waits before going on where the connection broke; gives the error back when that happened too often.
    async fn back_off(&mut self, error: FetchError) -> Result<(), FetchError> {
        let policy = self.repository.client.settings.retry;
        self.response = None;
        self.pace = Pace::new(self.repository.client.settings.progress_timeout);
        if self.position >= self.failed_at + FORGIVING_PROGRESS {
            self.failures = 0;
            self.delay = policy.first_delay;
        }
        self.failures += 1;
        self.failed_at = self.position;
        if self.failures >= policy.attempts {
            return Err(error);
        }
        tracing::debug!(what = self.what, position = self.position, %error, "resuming after a cut connection");
        tokio::time::sleep(self.delay).await;
        self.delay = (self.delay * 2).min(policy.max_delay);
        Ok(())
    }
}
