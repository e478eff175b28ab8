//! Why a request was not done: a kind to act on and a text to show.

use serde::{Deserialize, Serialize};

/// What sort of failure, for the daemon to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The message was not understood, or came in the wrong order.
    Protocol,
    /// The two sides have no version in common.
    Version,
    /// No such container or exec.
    NotFound,
    /// The id is taken.
    Exists,
    /// The container's state does not allow it.
    State,
    /// The runtime said no.
    Runtime,
    /// It took too long and was stopped.
    Timeout,
    /// A system call of the monitor failed.
    System,
    /// A kind of a newer version.
    #[serde(other)]
    Unknown,
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What sort.
    pub kind: FailureKind,
    /// What, where and why, for people.
    pub message: String,
}

/// Longest text sent; the end is kept, because that is where the cause stands.
const LONGEST_MESSAGE: usize = 4096;

impl Failure {
    /// A failure with a text of any length, which is shortened.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let mut message: String = message.into();
        if message.len() > LONGEST_MESSAGE {
            let mut from = message.len() - LONGEST_MESSAGE;
            while !message.is_char_boundary(from) {
                from += 1;
            }
            message.drain(..from);
        }
        Self { kind, message }
    }

    /// A failure with an error and all its sources as text.
    pub fn from_error(kind: FailureKind, error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::new(kind, text)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
