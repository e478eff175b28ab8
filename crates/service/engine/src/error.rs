//! What the engine answers when it cannot do what was asked.

use std::fmt;

/// How a caller should treat an [`EngineError`]; the RPC layer maps it to a status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The named pod or container does not exist.
    NotFound,
    /// The request itself is malformed.
    Invalid,
    /// The operation's own deadline passed.
    DeadlineExceeded,
    /// The object is in a state that does not allow it.
    Conflict,
    /// A configured feature is not there.
    Unimplemented,
    /// Who was doing it died; another try may succeed.
    Unavailable,
    /// Everything else. CRI-O answers most failures so, and kubelets match their texts.
    Failed,
}

/// A failure with the text that the client sees. Cloneable, because joined requests share one result.
#[derive(Debug, Clone)]
pub struct EngineError {
    kind: ErrorKind,
    message: String,
}

impl EngineError {
    /// An error of the given kind.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// The plain failure of an action; `action` says what was done to what, the source why it failed.
    #[must_use]
    pub fn failed(action: impl fmt::Display, source: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(ErrorKind::Failed, format!("{action}: {}", chain(source)))
    }

    /// A request that cannot be carried out, in words that stand for themselves.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// How to treat it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The text for the client.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EngineError {}

/// The error and its sources in one line. The ports' errors do not repeat their sources in their own text.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let source_text = source.to_string();
        if !text.ends_with(&source_text) {
            text.push_str(": ");
            text.push_str(&source_text);
        }
        next = source.source();
    }
    text
}

/// Turns a port's error into the engine's, saying what was being done.
pub(crate) trait Context<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, EngineError>;
}

impl<T> Context<T> for Result<T, crate::ports::PortError> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T, EngineError> {
        self.map_err(|source| {
            let error = EngineError::failed(action(), source.as_ref());
            match source.is::<crate::ports::Interrupted>() {
                true => EngineError::new(ErrorKind::Unavailable, error.message),
                false => error,
            }
        })
    }
}
