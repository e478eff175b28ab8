//! One HTTP client per host, and what its failures mean.

use std::io::ErrorKind;

use super::{FetchError, Phase, RegistryClient};
use crate::certs::{Verification, tls_config};

impl RegistryClient {
    /// The connection pool for a host (with port), made at first use.
    pub(super) fn connection(
        &self,
        host: &str,
        verification: Verification,
    ) -> Result<reqwest::Client, FetchError> {
        let key = (host.to_owned(), verification);
        let mut connections = self
            .connections
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(client) = connections.get(&key) {
            return Ok(client.clone());
        }
        let tls = tls_config(
            &self.settings.cert_dirs,
            host,
            verification,
            &self.system_roots,
        )?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(&self.settings.user_agent)
            .connect_timeout(self.settings.connect_timeout)
            .build()
            .map_err(|source| FetchError::Client {
                host: host.to_owned(),
                source,
            })?;
        connections.insert(key, client.clone());
        Ok(client)
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn timed(
        &self,
        what: &str,
        host: &str,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, FetchError> {
        let limit = self.settings.response_timeout;
        match tokio::time::timeout(limit, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.classify(what, host, error)),
            Err(_) => Err(FetchError::Timeout {
                what: what.to_owned(),
                host: host.to_owned(),
                phase: Phase::Response,
                limit,
            }),
        }
    }

    /// The meaning of a failure before a response.
    fn classify(&self, what: &str, host: &str, error: reqwest::Error) -> FetchError {
        let error = error.without_url(); // signed URLs carry secrets
        let (what, host) = (what.to_owned(), host.to_owned());
        if error.is_connect() {
            if error.is_timeout() {
                let limit = self.settings.connect_timeout;
                return FetchError::Timeout {
                    what,
                    host,
                    phase: Phase::Connect,
                    limit,
                };
            }
            return match io_kind(&error) {
                Some(ErrorKind::ConnectionRefused) => FetchError::RegistryUnavailable {
                    what,
                    host,
                    source: error,
                },
                _ => FetchError::Connect {
                    what,
                    host,
                    source: error,
                },
            };
        }
        FetchError::Interrupted {
            what,
            host,
            received: 0,
            source: Some(error),
        }
    }
}

/// The kind of the system error at the bottom of `error`.
fn io_kind(error: &(dyn std::error::Error + 'static)) -> Option<ErrorKind> {
    let mut next = Some(error);
    let mut kind = None;
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            kind = Some(io.kind());
        }
        next = error.source();
    }
    kind
}
