//! The log, in the text and JSON shapes that CRI-O's users and tools know.
//!
//! [`init`] installs the one subscriber of the process and gives a [`LogHandle`], by which level and filter
//! change while the process runs. Everything else in the program logs through `tracing`.
//!
//! A line carries the event's own fields and those of the spans around it. The span of an rpc has the fields
//! `id` and `name`, so that every line written on its behalf can be found.
#![forbid(unsafe_code)]

mod chain;
mod fields;
mod handle;
mod json;
mod layer;
mod level;
mod line;
mod quoting;
mod sink;
mod text;

pub use chain::{Chain, chain};
pub use handle::{InvalidFilterError, LogHandle, check_filter};
pub use level::{InvalidLevelError, Level};
pub use quoting::go_quoted;
pub use sink::{InitLogError, LogDestination};

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::Registry;

use crate::handle::Threshold;
use crate::layer::LogLayer;
use crate::sink::Sink;

/// Shape of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `time="…" level=info msg="…" key=value`, as logrus writes.
    Text,
    /// One JSON object per line with the same keys.
    Json,
}

/// What is logged, how and where.
#[derive(Debug)]
pub struct LogSettings {
    pub level: Level,
    /// Regular expression that messages must match. Empty lets all pass.
    pub filter: String,
    pub format: Format,
    pub destination: LogDestination,
}

/// Installs the log for the whole process.
///
/// # Errors
/// When the filter is no regular expression, the file cannot be opened, or a log was installed before.
pub fn init(settings: LogSettings) -> Result<LogHandle, InitLogError> {
    let (subscriber, handle) = subscriber(settings)?;
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|source| InitLogError::AlreadyInstalled { source })?;
    Ok(handle)
}

/// The subscriber that [`init`] installs, for programs that compose their own and for tests.
///
/// # Errors
/// When the filter is no regular expression or the file cannot be opened.
pub fn subscriber(
    settings: LogSettings,
) -> Result<(impl tracing::Subscriber + Send + Sync + 'static, LogHandle), InitLogError> {
    let threshold = Threshold::new(settings.level, &settings.filter)?;
    let sink = Sink::open(settings.destination)?;
    let handle = LogHandle::new(threshold.clone());
    let layer = LogLayer::new(threshold, settings.format, sink);
    Ok((Registry::default().with(layer), handle))
}

#[cfg(test)]
mod tests;
