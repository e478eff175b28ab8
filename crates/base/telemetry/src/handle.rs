//! Level and filter, changeable while the process runs.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use regex::Regex;

use crate::level::Level;

/// A `log_filter` that is no regular expression.
#[derive(Debug, thiserror::Error)]
#[error("custom log level filter does not compile: `{filter}`")]
pub struct InvalidFilterError {
    pub filter: String,
    pub source: Box<regex::Error>,
}

/// What the layer asks for each event.
#[derive(Clone, Debug)]
pub(crate) struct Threshold {
    level: Arc<AtomicU8>,
    filter: Arc<RwLock<Option<Regex>>>,
}

impl Threshold {
    pub(crate) fn new(level: Level, filter: &str) -> Result<Self, InvalidFilterError> {
        Ok(Self {
            level: Arc::new(AtomicU8::new(level as u8)),
            filter: Arc::new(RwLock::new(compile(filter)?)),
        })
    }

    pub(crate) fn level(&self) -> Level {
        // Only valid discriminants are ever stored; the fallback cannot be reached.
        let stored = usize::from(self.level.load(Ordering::Relaxed));
        Level::ALL.get(stored).copied().unwrap_or(Level::Trace)
    }

    pub(crate) fn lets_pass(&self, message: &str) -> bool {
        let filter = self.filter.read().unwrap_or_else(PoisonError::into_inner);
        filter
            .as_ref()
            .is_none_or(|filter| filter.is_match(message))
    }
}

/// Checks a filter before there is a log.
///
/// # Errors
/// When it is no regular expression.
pub fn check_filter(filter: &str) -> Result<(), InvalidFilterError> {
    compile(filter).map(|_| ())
}

fn compile(filter: &str) -> Result<Option<Regex>, InvalidFilterError> {
    if filter.is_empty() {
        return Ok(None);
    }
    Regex::new(filter)
        .map(Some)
        .map_err(|source| InvalidFilterError {
            filter: filter.to_owned(),
            source: Box::new(source),
        })
}

/// Changes the log of the running process. Clones act on the same log.
#[derive(Clone, Debug)]
pub struct LogHandle {
    threshold: Threshold,
}

impl LogHandle {
    pub(crate) fn new(threshold: Threshold) -> Self {
        Self { threshold }
    }

    /// The least important level that is logged.
    pub fn level(&self) -> Level {
        self.threshold.level()
    }

    /// Logs `level` and everything more important from now on.
    pub fn set_level(&self, level: Level) {
        self.threshold.level.store(level as u8, Ordering::Relaxed);
        // Call sites remember whether anybody wants them.
        tracing::callsite::rebuild_interest_cache();
    }

    /// Logs only messages that match `filter` from now on; empty lets all pass.
    ///
    /// # Errors
    /// When it is no regular expression. The filter in force stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), InvalidFilterError> {
        let compiled = compile(filter)?;
        *self
            .threshold
            .filter
            .write()
            .unwrap_or_else(PoisonError::into_inner) = compiled;
        Ok(())
    }
}
