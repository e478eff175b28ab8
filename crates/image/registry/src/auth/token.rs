//! Bearer tokens: the answer of a token server and how long it may be used.

use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::secret::Secret;

/// A token without a stated life is good for this long.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is not used in the last moments of its life.
const MARGIN: Duration = Duration::from_secs(5);

/// What a token was given for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    /// Host of the registry.
    pub(crate) host: String,
    /// Repository it may read; empty for none.
    pub(crate) repository: String,
    /// Whose it is.
    pub(crate) credentials: Option<super::Credentials>,
}

/// A token and the end of its life.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) value: Secret,
    expires: Instant,
}

/// A token server's answer. Registries use either name for the token.
#[derive(Deserialize)]
pub(crate) struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    expires_in: Option<u64>,
}

impl Token {
    /// Whether it can still be sent.
    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() + MARGIN < self.expires
    }
}

impl TokenAnswer {
    /// The token, counted from when its request was sent (clocks of two machines are not compared).
    pub(crate) fn into_token(self, requested: Instant) -> Option<Token> {
        let value = if self.token.is_empty() {
            self.access_token
        } else {
            self.token
        };
        let life = self.expires_in.map_or(DEFAULT_LIFE, |s| {
            Duration::from_secs(s.min(86_400)).max(DEFAULT_LIFE)
        });
        (!value.is_empty()).then(|| Token {
            value: Secret::new(value),
            expires: requested + life,
        })
    }
}
