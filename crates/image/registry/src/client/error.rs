//! Why something could not be fetched.

use std::time::Duration;

use crate::auth::LoadAuthFileError;
use crate::certs::LoadCertificatesError;

/// What was waited for when time was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The connection.
    Connect,
    /// The head of the response.
    Response,
    /// More of the body.
    Body,
    /// As much of the body as any line carries in that time.
    Trickle,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connect => "connection",
            Self::Response => "response",
            Self::Body => "data",
            Self::Trickle => "more than a trickle of data",
        })
    }
}

/// Why a manifest, blob or token could not be fetched. `what` names it with its host.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody listens at the registry's address.
    #[error("fetch {what}: registry `{host}` refused the connection")]
    RegistryUnavailable {
        /// The thing.
        what: String,
        /// Host with port.
        host: String,
        /// The system's answer.
        source: reqwest::Error,
    },
    /// The registry cannot be reached or its TLS is not acceptable.
    #[error("fetch {what}: connect to `{host}`")]
    Connect {
        /// The thing.
        what: String,
        /// Host with port.
        host: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// Nothing came in time.
    #[error("fetch {what}: no {phase} from `{host}` within {limit:?}")]
    Timeout {
        /// The thing.
        what: String,
        /// Host with port.
        host: String,
        /// What was waited for.
        phase: Phase,
        /// How long.
        limit: Duration,
    },
    /// The connection broke.
    #[error("fetch {what}: connection to `{host}` broke after {received} bytes")]
    Interrupted {
        /// The thing.
        what: String,
        /// Host with port.
        host: String,
        /// Bytes of the body received before.
        received: u64,
        /// What went wrong; absent when the body simply ended early.
        source: Option<reqwest::Error>,
    },
    /// The registry gives the whole where a part was asked for.
    #[error("fetch {what}: `{host}` knows no ranges")]
    NoRanges {
        /// The thing.
        what: String,
        /// Host with port.
        host: String,
    },
    /// The registry does not have it.
    #[error("fetch {what}: not found{detail}")]
    NotFound {
        /// The thing.
        what: String,
        /// The registry's words.
        detail: String,
    },
    /// Credentials are missing or refused.
    #[error("fetch {what}: {detail}")]
    Unauthorized {
        /// The thing.
        what: String,
        /// Why, with the registry's words.
        detail: String,
    },
    /// The registry forbids it.
    #[error("fetch {what}: denied{detail}")]
    Denied {
        /// The thing.
        what: String,
        /// The registry's words.
        detail: String,
    },
    /// The registry limits requests.
    #[error("fetch {what}: too many requests{detail}")]
    TooManyRequests {
        /// The thing.
        what: String,
        /// The registry's words.
        detail: String,
    },
    /// Any other answer than success.
    #[error("fetch {what}: `{host}` answered {status}{detail}")]
    Status {
        /// The thing.
        what: String,
        /// Host with port.
        host: String,
        /// HTTP status code.
        status: u16,
        /// The registry's words.
        detail: String,
    },
    /// The answer breaks the protocol.
    #[error("fetch {what}: `{host}` answered wrongly: {reason}")]
    Protocol {
        /// The thing.
        what: String,
        /// Host with port.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// It is larger than allowed.
    #[error("fetch {what}: larger than {limit} bytes")]
    TooLarge {
        /// The thing.
        what: String,
        /// Largest size accepted (bytes).
        limit: u64,
    },
    /// The content is not what its digest says.
    #[error("fetch {what}: content has digest `{actual}`")]
    DigestMismatch {
        /// The thing, with the digest wanted.
        what: String,
        /// The digest of what came.
        actual: String,
    },
    /// Credentials would have to go over plain HTTP.
    #[error(
        "fetch {what}: token server `{realm}` does not use TLS and `{host}` is not marked insecure"
    )]
    InsecureTokenServer {
        /// The thing.
        what: String,
        /// The registry.
        host: String,
        /// The token server's URL.
        realm: String,
    },
    /// A redirect that must not be followed.
    #[error("fetch {what}: redirect by `{host}` refused: {reason}")]
    Redirect {
        /// The thing.
        what: String,
        /// Who redirected.
        host: String,
        /// Why it is not followed.
        reason: String,
    },
    /// An auth file is not usable.
    #[error(transparent)]
    AuthFile(#[from] LoadAuthFileError),
    /// Certificates are not usable.
    #[error(transparent)]
    Certificates(#[from] LoadCertificatesError),
    /// The HTTP client could not be set up.
    #[error("set up an HTTP client for `{host}`")]
    Client {
        /// Host with port.
        host: String,
        /// What went wrong.
        source: reqwest::Error,
    },
}

impl FetchError {
    /// Whether nobody listened at the registry's address.
    #[must_use]
    pub fn is_registry_unavailable(&self) -> bool {
        matches!(self, Self::RegistryUnavailable { .. })
    }
}
