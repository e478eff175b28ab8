//! Who we are to a registry: credentials of a request, auth files, bearer tokens.

mod challenge;
mod credential_helper;
mod file;
mod token;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use credential_helper::CredentialHelperError;
pub use file::{AuthFiles, LoadAuthFileError};

pub(crate) use challenge::Challenge;
pub(crate) use token::{Token, TokenAnswer, TokenKey};

use crate::secret::Secret;

/// What a registry accepts as proof.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// User and password.
    Password {
        /// User name; not secret.
        username: String,
        /// Its password.
        password: Secret,
    },
    /// A refresh token that a token server exchanges.
    IdentityToken(Secret),
}

impl Credentials {
    /// User and password as one value.
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::Password {
            username: username.into(),
            password: Secret::new(password),
        }
    }

    /// Decodes base64 of `user:password`, as auth files and CRI requests carry it.
    ///
    /// Trailing NULs of the password are dropped, as some tools pad with them.
    #[must_use]
    pub fn decode(encoded: &str) -> Option<Self> {
        let bytes = STANDARD.decode(encoded.trim()).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (username, password) = text.split_once(':')?;
        (!username.is_empty()).then(|| Self::password(username, password.trim_end_matches('\0')))
    }

    /// The value of a basic `Authorization` header, if these are user and password.
    pub(crate) fn basic_header(&self) -> Option<Secret> {
        match self {
            Self::Password { username, password } => {
                let pair = format!("{username}:{}", password.expose());
                Some(Secret::new(format!("Basic {}", STANDARD.encode(pair))))
            }
            Self::IdentityToken(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
