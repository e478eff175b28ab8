//! GET requests: scheme, authorization, redirects, retries.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};

use super::{FetchError, Repository, respond};
use crate::secret::Secret;

/// More redirects than this are a loop.
const MAX_REDIRECTS: usize = 10;

/// A failure, and whether and when another try may help.
pub(super) struct Failure {
    pub(super) error: FetchError,
    pub(super) retry: Retry,
}

/// What to do about a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    Never,
    BackOff,
    After(Duration),
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Target {
    /// A path below `/v2/` of the registry.
    Below(String),
    /// Something on another server, which gets no credentials.
    Foreign(Url),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let retry = match &error {
            FetchError::Interrupted { .. } => Retry::BackOff,
            _ => Retry::Never,
        };
        Self { error, retry }
    }
}

impl Repository {
    /// GETs something; retries what may pass. The answer is 200 or 206.
    pub(super) async fn get(
        &self,
        what: &str,
        target: &Target,
        headers: &[(HeaderName, String)],
    ) -> Result<Response, FetchError> {
        let policy = self.client.settings.retry;
        let mut delay = policy.first_delay;
        let mut attempt = 1;
        loop {
            let answer = match target {
                Target::Below(path) => self.get_once(what, path, headers).await,
                Target::Foreign(url) => self.get_foreign(what, url, headers).await,
            };
            let failure = match answer {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let pause = match failure.retry {
                Retry::BackOff => delay,
                Retry::After(pause) => pause.min(policy.max_delay),
                Retry::Never => return Err(failure.error),
            };
            if attempt >= policy.attempts {
                return Err(failure.error);
            }
            tracing::debug!(what, attempt, ?pause, error = %failure.error, "trying again");
            tokio::time::sleep(pause).await;
            delay = (delay * 2).min(policy.max_delay);
            attempt += 1;
        }
    }

    /// One try, with the round trips that authorization takes.
    async fn get_once(
        &self,
        what: &str,
        path: &str,
        headers: &[(HeaderName, String)],
    ) -> Result<Response, Failure> {
        let mut refused: Option<FetchError> = None;
        for scheme in self.schemes() {
            let url = self.url(what, scheme, path)?;
            match self.get_authorized(what, &url, headers).await {
                Ok(response) => return Ok(response),
                // Only a failed connection says that the other scheme may work.
                Err(Failure { error, .. })
                    if self.insecure
                        && *scheme == "https"
                        && self.learned().scheme.is_none()
                        && is_connect(&error) =>
                {
                    refused = Some(error);
                }
                Err(failure) => return Err(failure),
            }
        }
        let error = refused.unwrap_or_else(|| FetchError::Protocol {
            what: what.to_owned(),
            host: self.host.clone(),
            reason: "no scheme to try".to_owned(),
        });
        Err(error.into())
    }

    async fn get_foreign(
        &self,
        what: &str,
        url: &Url,
        headers: &[(HeaderName, String)],
    ) -> Result<Response, Failure> {
        let response = self.follow(what, url.clone(), headers, None).await?;
        respond::check(what, &host_of(url), response).await
    }

    async fn get_authorized(
        &self,
        what: &str,
        url: &Url,
        headers: &[(HeaderName, String)],
    ) -> Result<Response, Failure> {
        let mut renewed = false;
        let mut authorization = self.known_authorization(what).await?;
        loop {
            let sent = authorization.is_some();
            let response = self
                .follow(what, url.clone(), headers, authorization.as_ref())
                .await?;
            self.learned().scheme = Some(if url.scheme() == "https" {
                "https"
            } else {
                "http"
            });
            if renewed || response.status() != StatusCode::UNAUTHORIZED {
                return self.checked(what, response).await;
            }
            renewed = true;
            match self.answer_challenge(what, &response, sent).await? {
                Some(secret) => authorization = Some(secret),
                None => return self.checked(what, response).await,
            }
        }
    }

    async fn checked(&self, what: &str, response: Response) -> Result<Response, Failure> {
        respond::check(what, &self.host, response)
            .await
            .map_err(|Failure { error, retry }| Failure {
                error: self.explain_unauthorized(error),
                retry,
            })
    }

    /// Sends the request and follows redirects. `authorization` goes to the first host only, and never again once
    /// another host has been visited.
    pub(super) async fn follow(
        &self,
        what: &str,
        mut url: Url,
        headers: &[(HeaderName, String)],
        authorization: Option<&Secret>,
    ) -> Result<Response, FetchError> {
        let origin = url.origin();
        let mut trusted = true;
        for _ in 0..=MAX_REDIRECTS {
            trusted &= url.origin() == origin;
            let authorization = authorization.filter(|_| trusted);
            let response = self.send(what, &url, headers, authorization).await?;
            if !is_redirect(response.status()) {
                return Ok(response);
            }
            url = self.redirected(what, &url, response.headers())?;
        }
        Err(self.redirect_refused(what, &url, format!("more than {MAX_REDIRECTS} of them")))
    }

    pub(super) fn redirected(
        &self,
        what: &str,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<Url, FetchError> {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let Some(location) = location else {
            return Err(self.redirect_refused(what, url, "no usable Location".to_owned()));
        };
        let next = url
            .join(location)
            .map_err(|e| self.redirect_refused(what, url, format!("bad Location: {e}")))?;
        self.allowed(what, url, next)
    }

    /// The address of something that a manifest says is on another server.
    pub(super) fn foreign_url(&self, what: &str, address: &str) -> Result<Url, FetchError> {
        let registry = self.url(what, "https", "")?;
        let url = Url::parse(address).map_err(|e| {
            self.redirect_refused(what, &registry, format!("a bad address in a manifest: {e}"))
        })?;
        self.allowed(what, &registry, url)
    }

    fn allowed(&self, what: &str, from: &Url, next: Url) -> Result<Url, FetchError> {
        match (next.scheme(), self.insecure) {
            ("https", _) | ("http", true) => Ok(next),
            (scheme, _) => {
                let host = next.host_str().unwrap_or_default();
                Err(self.redirect_refused(
                    what,
                    from,
                    format!("`{scheme}` to `{host}` is not allowed"),
                ))
            }
        }
    }

    fn redirect_refused(&self, what: &str, url: &Url, reason: String) -> FetchError {
        FetchError::Redirect {
            what: what.to_owned(),
            host: host_of(url),
            reason,
        }
    }

    /// One request, one response head.
    pub(super) async fn send(
        &self,
        what: &str,
        url: &Url,
        headers: &[(HeaderName, String)],
        authorization: Option<&Secret>,
    ) -> Result<Response, FetchError> {
        let host = host_of(url);
        let certificates_of = if host == self.api_host() {
            &self.host
        } else {
            &host
        };
        let mut request = self
            .client
            .connection(certificates_of, self.verification())?
            .get(url.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(secret) = authorization {
            let mut value =
                HeaderValue::from_str(secret.expose()).map_err(|_| FetchError::Unauthorized {
                    what: what.to_owned(),
                    detail: "the credentials hold characters that no header may have".to_owned(),
                })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        self.client.timed(what, &host, request).await
    }
}

/// Host with port, for messages.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn is_connect(error: &FetchError) -> bool {
    matches!(
        error,
        FetchError::Connect { .. } | FetchError::RegistryUnavailable { .. }
    )
}

/// The pause a server asks for, in seconds or until a date (then one step of back-off has to do).
pub(super) fn retry_after(headers: &HeaderMap) -> Retry {
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.trim().parse().ok());
    seconds.map_or(Retry::BackOff, |s| Retry::After(Duration::from_secs(s)))
}
