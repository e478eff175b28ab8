//! Telling a running conmon something, by its `ctl` FIFO.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::time::Instant;

/// How long conmon may take to open a new log.
const PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Why conmon could not be told something.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody reads its FIFO, or it cannot be opened.
    #[error("cannot write to conmon's `{}`", path.display())]
    Write {
        /// The FIFO.
        path: PathBuf,
        /// Why; `ENXIO` when there is no conmon any more.
        source: io::Error,
    },
    /// It was told, and did not do it.
    #[error("conmon did not open the log `{}` again within {}s", path.display(), PATIENCE.as_secs())]
    NoLog {
        /// The log.
        path: PathBuf,
    },
}

/// Lets conmon open its log path again, and waits until the file is there.
///
/// # Errors
/// There is no conmon, or it does not answer.
pub async fn reopen_log(bundle: &Path, log: &Path) -> Result<(), ControlError> {
    send(bundle, "2 0 0\n")?;
    // There is no answer but the file itself.
    let deadline = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    while !log.exists() {
        if Instant::now() >= deadline {
            return Err(ControlError::NoLog { path: log.into() });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Changes the size of the container's terminal.
///
/// # Errors
/// There is no conmon.
pub fn resize(bundle: &Path, width: u16, height: u16) -> Result<(), ControlError> {
    send(bundle, &format!("1 {height} {width}\n"))
}

fn send(bundle: &Path, line: &str) -> Result<(), ControlError> {
    let path = bundle.join("ctl");
    let written = || -> io::Result<()> {
        // Without a reader this fails at once instead of waiting for one.
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fifo = rustix::fs::open(&path, flags, Mode::empty())?;
        // A FIFO takes a short line at once or not at all.
        rustix::io::write(&fifo, line.as_bytes())?;
        Ok(())
    };
    written().map_err(|source| ControlError::Write { path, source })
}
