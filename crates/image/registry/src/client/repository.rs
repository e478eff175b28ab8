//! One repository of one registry, with what is known about how to talk to it.

use std::sync::{Arc, Mutex};

use reqwest::Url;

use super::request::Target;
use super::{FetchError, RegistryClient};
use crate::auth::{Challenge, Credentials};
use crate::certs::Verification;
use crate::conf::Endpoint;

/// A repository at a registry.
#[derive(Debug)]
pub struct Repository {
    pub(super) client: Arc<RegistryClient>,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) insecure: bool,
    pub(super) credentials: Option<Credentials>,
    pub(super) learned: Mutex<Learned>,
}

/// What answers have taught.
#[derive(Debug, Default)]
pub(super) struct Learned {
    pub(super) scheme: Option<&'static str>,
    pub(super) challenge: Option<Challenge>,
}

impl Repository {
    pub(super) fn new(
        client: Arc<RegistryClient>,
        endpoint: &Endpoint,
        credentials: Option<Credentials>,
    ) -> Self {
        Self {
            client,
            host: endpoint.host.clone(),
            path: endpoint.repository.clone(),
            insecure: endpoint.insecure,
            credentials,
            learned: Mutex::default(),
        }
    }

    /// `host/path`, as in references.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// Asks whether the registry speaks the distribution protocol and lets us in.
    pub async fn ping(&self) -> Result<(), FetchError> {
        let what = format!("API version of `{}`", self.host);
        self.get(&what, &Target::Below(String::new()), &[])
            .await
            .map(drop)
    }

    /// Docker Hub's references name a host that is not its API.
    pub(super) fn api_host(&self) -> &str {
        if self.host == "docker.io" {
            "registry-1.docker.io"
        } else {
            &self.host
        }
    }

    /// The URL of `path` below `/v2/`.
    pub(super) fn url(&self, what: &str, scheme: &str, path: &str) -> Result<Url, FetchError> {
        Url::parse(&format!("{scheme}://{}/v2/{path}", self.api_host())).map_err(|e| {
            FetchError::Protocol {
                what: what.to_owned(),
                host: self.host.clone(),
                reason: format!("not a host for an URL: {e}"),
            }
        })
    }

    pub(super) fn verification(&self) -> Verification {
        if self.insecure {
            Verification::Skipped
        } else {
            Verification::Required
        }
    }

    /// Schemes to try: TLS first, plain HTTP only for insecure registries, only the working one once known.
    pub(super) fn schemes(&self) -> &'static [&'static str] {
        match (self.insecure, self.learned().scheme) {
            (_, Some("https")) | (false, _) => &["https"],
            (true, Some(_)) => &["http"],
            (true, None) => &["https", "http"],
        }
    }

    pub(super) fn learned(&self) -> std::sync::MutexGuard<'_, Learned> {
        self.learned
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
