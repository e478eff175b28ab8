//! What can be wrong with a configuration, and where a value came from.

use std::fmt;
use std::path::PathBuf;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere: it is the default.
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    /// A flag, without its dashes.
    Flag {
        name: String,
    },
    /// An environment variable.
    Environment {
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Origin::Flag { name } => write!(formatter, "flag --{name}"),
            Origin::Environment { name } => write!(formatter, "environment variable {name}"),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    #[error("unable to decode configuration {}: line {line}: {reason}", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        reason: String,
    },
    #[error(
        "unable to decode configuration {}: line {line}: key `{key}`: expected {expected}, got {found} `{value}`",
        path.display()
    )]
    WrongType {
        path: PathBuf,
        line: usize,
        key: String,
        expected: &'static str,
        found: &'static str,
        value: String,
    },
    #[error("{origin}: invalid value `{value}` for `{key}`: {reason}")]
    InvalidValue {
        origin: Origin,
        key: String,
        value: String,
        reason: String,
    },
}

/// Something odd that does not stop the daemon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    #[error("{}:{line}: unknown key `{key}` is ignored", path.display())]
    UnknownKey {
        path: PathBuf,
        line: usize,
        key: String,
    },
    #[error("{origin}: `{key}` is deprecated, use {instead}")]
    Deprecated {
        origin: Origin,
        key: String,
        instead: &'static str,
    },
    #[error("{origin}: `{key}` is set to {used} instead of {given}: {reason}")]
    Adjusted {
        origin: Origin,
        key: String,
        given: String,
        used: String,
        reason: &'static str,
    },
    #[error("runtime handler `{handler}` is invalid and will be ignored: {reason}")]
    HandlerIgnored { handler: String, reason: String },
}
