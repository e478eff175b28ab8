//! The HTTP side: connections per host, requests with authorization, redirects and retries.

mod authorize;
mod blob;
mod connect;
mod error;
mod manifest;
mod pace;
mod repository;
mod request;
mod respond;
mod signatures;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use blob::BlobStream;
pub use error::{FetchError, Phase};
pub use manifest::{FetchedManifest, MAX_MANIFEST};
pub use repository::Repository;

use crate::auth::{AuthFiles, Credentials, Token, TokenKey};
use crate::certs::{SystemRoots, Verification};
use crate::conf::Endpoint;

/// How registries are talked to.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// `certs.d` directories; the first that knows a host is used.
    pub cert_dirs: Vec<PathBuf>,
    /// Value of the `User-Agent` header.
    pub user_agent: String,
    /// Limit for one connection attempt, TLS included.
    pub connect_timeout: Duration,
    /// Limit between request and the head of the response.
    pub response_timeout: Duration,
    /// Limit for 16 KiB of a body, or for its rest.
    pub progress_timeout: Duration,
    /// What to do about a blob that reaches it.
    pub on_stall: OnStall,
    /// When and how often to try again.
    pub retry: RetryPolicy,
}

/// What to do about a blob that stops coming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStall {
    /// Give up.
    Fail,
    /// Go on with a new connection, as after a cut one.
    Resume,
}

/// When and how often a failed request is tried again.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Tries in all, at least one.
    pub attempts: u32,
    /// Pause before the second try; doubled for each further one.
    pub first_delay: Duration,
    /// No pause is longer, whatever a server's `Retry-After` says.
    pub max_delay: Duration,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            cert_dirs: vec![
                "/etc/containers/certs.d".into(),
                "/etc/docker/certs.d".into(),
            ],
            user_agent: concat!("crioxide/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(60),
            progress_timeout: Duration::from_secs(60),
            on_stall: OnStall::Resume,
            retry: RetryPolicy {
                attempts: 5,
                first_delay: Duration::from_millis(500),
                max_delay: Duration::from_secs(60),
            },
        }
    }
}

/// A registry client. Connections and tokens are kept and shared by all of its repositories.
#[derive(Debug)]
pub struct RegistryClient {
    settings: ClientSettings,
    connections: Mutex<HashMap<(String, Verification), reqwest::Client>>,
    tokens: Mutex<HashMap<TokenKey, Token>>,
    system_roots: SystemRoots,
}

impl RegistryClient {
    /// A client without connections.
    #[must_use]
    pub fn new(settings: ClientSettings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            connections: Mutex::default(),
            tokens: Mutex::default(),
            system_roots: SystemRoots::default(),
        })
    }

    /// The repository of an endpoint. Credentials come from `credentials`, else from `auth` by the endpoint's own
    /// name, so a mirror is never shown the login of the registry it mirrors.
    pub async fn repository(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        credentials: Option<Credentials>,
        auth: &AuthFiles,
    ) -> Result<Repository, FetchError> {
        let credentials = match credentials {
            Some(credentials) => Some(credentials),
            // Files and programs are not for async threads.
            None => {
                let (auth, host) = (auth.clone(), endpoint.host.clone());
                let path = endpoint.repository.clone();
                let looked = tokio::task::spawn_blocking(move || auth.lookup(&host, &path)).await;
                looked.map_err(|_| FetchError::Interrupted {
                    what: format!("credentials for `{}`", endpoint.host),
                    host: endpoint.host.clone(),
                    received: 0,
                    source: None,
                })??
            }
        };
        Ok(Repository::new(self.clone(), endpoint, credentials))
    }
}

#[cfg(test)]
mod tests;
