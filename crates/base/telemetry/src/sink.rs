//! Where lines go.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::handle::InvalidFilterError;

/// Where the log is written.
pub enum LogDestination {
    Stderr,
    /// Appended to; created when missing.
    File(PathBuf),
    /// Anything else.
    Writer(Box<dyn Write + Send>),
}

impl fmt::Debug for LogDestination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogDestination::Stderr => formatter.write_str("Stderr"),
            LogDestination::File(path) => formatter.debug_tuple("File").field(path).finish(),
            LogDestination::Writer(_) => formatter.write_str("Writer"),
        }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum InitLogError {
    #[error("failed to open log file `{}`", path.display())]
    OpenFile { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Filter(#[from] InvalidFilterError),
    #[error("the log of this process is installed already")]
    AlreadyInstalled {
        source: tracing::subscriber::SetGlobalDefaultError,
    },
}

pub(crate) struct Sink(Mutex<Box<dyn Write + Send>>);

impl Sink {
    pub(crate) fn open(destination: LogDestination) -> Result<Self, InitLogError> {
        let writer: Box<dyn Write + Send> = match destination {
            LogDestination::Stderr => Box::new(io::stderr()),
            LogDestination::File(path) => Box::new(append_to(path)?),
            LogDestination::Writer(writer) => writer,
        };
        Ok(Self(Mutex::new(writer)))
    }

    /// Writes one whole line with one call, so that lines of different threads do not mix.
    pub(crate) fn write(&self, line: &[u8]) {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that cannot be written has nowhere to be reported.
        let _unreportable = writer.write_all(line);
    }
}

fn append_to(path: PathBuf) -> Result<File, InitLogError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|source| InitLogError::OpenFile { path, source })
}
