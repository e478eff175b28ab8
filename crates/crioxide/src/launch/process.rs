//! The state that the daemon's process starts in.

use std::io;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};

/// The limits that children get, because the daemon raises its own.
#[derive(Clone, Debug)]
pub(crate) struct ProcessLimits {
    /// Open files, as the daemon found it.
    pub(crate) open_files: Rlimit,
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareProcessError {
    #[error("put /dev/null in place of standard input")]
    Stdin { source: io::Error },
    #[error("raise the limit of open files to {hard:?}")]
    OpenFiles {
        hard: Option<u64>,
        source: io::Error,
    },
}

/// Sets umask and standard input, and raises the soft limit of open files. SIGPIPE is ignored by Rust already.
pub(crate) fn prepare_daemon_process() -> Result<ProcessLimits, PrepareProcessError> {
    let _before = rustix::process::umask(Mode::from_raw_mode(0o022));
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    null.and_then(|null| rustix::stdio::dup2_stdin(&null))
        .map_err(|error| PrepareProcessError::Stdin {
            source: error.into(),
        })?;
    let open_files = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: open_files.maximum,
        maximum: open_files.maximum,
    };
    rustix::process::setrlimit(Resource::Nofile, raised).map_err(|error| {
        PrepareProcessError::OpenFiles {
            hard: open_files.maximum,
            source: error.into(),
        }
    })?;
    Ok(ProcessLimits { open_files })
}
