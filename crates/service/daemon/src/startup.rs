//! What the daemon is started with.

use std::error::Error;
use std::fmt;

use crioxide_config::{CommandLineOptions, Config, Loaded};
use crioxide_telemetry::LogHandle;

/// Everything that the command line found out before the daemon runs.
///
/// The process is prepared by then: umask 022, standard input is `/dev/null`, the limit of open files is raised,
/// the log runs, and no thread but the caller's exists.
#[derive(Debug)]
pub struct Startup {
    /// The configuration with flags and environment applied.
    pub config: Config,
    /// Flags that have no key: profiling, registries.conf.
    pub command_line: CommandLineOptions,
    /// Changes level and filter of the log on reload.
    pub log: LogHandle,
    /// Reads the configuration again on SIGHUP.
    pub source: Box<dyn ConfigSource>,
    /// The limit of open files that the process was started with, for its children.
    pub child_open_files: OpenFilesLimit,
}

/// A limit of open files; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFilesLimit {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// Where the configuration came from.
pub trait ConfigSource: fmt::Debug + Send + Sync {
    /// Defaults, file and drop-ins as they are now, without flags and environment.
    ///
    /// # Errors
    /// When a file cannot be read or the whole is invalid.
    fn load(&self) -> Result<Loaded, Box<dyn Error + Send + Sync>>;
}
