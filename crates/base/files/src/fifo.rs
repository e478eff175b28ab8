//! FIFOs at which two processes meet.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};

/// A FIFO that cannot be made or opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} FIFO `{}`", path.display())]
pub struct FifoError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl From<FifoError> for io::Error {
    fn from(error: FifoError) -> Self {
        // Many show an I/O error without what is behind it.
        let text = format!("{error}: {}", error.source);
        Self::new(error.source.kind(), text)
    }
}

/// What becomes of something that is at the path already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    Refused,
    /// It stays; [`open_fifo`] refuses what is no FIFO.
    Kept,
    /// It is removed first.
    Replaced,
}

/// Which end of a FIFO is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FifoEnd {
    /// To read; it reads as ended while nobody has the other end open.
    Read,
    /// To write; it cannot be opened while nobody has the other end open.
    Write,
    /// Both in one, which never reads as ended.
    Both,
}

/// Makes a FIFO with permission bits `mode`, less the process's umask.
///
/// # Errors
/// It names the path.
pub fn make_fifo(path: &Path, mode: u32, existing: Existing) -> Result<(), FifoError> {
    let failed = |action, source| FifoError {
        action,
        path: path.to_owned(),
        source,
    };
    if existing == Existing::Replaced
        && let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(failed("replace", error));
    }
    match rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(mode), 0) {
        Err(rustix::io::Errno::EXIST) if existing == Existing::Kept => Ok(()),
        made => made.map_err(|errno| failed("make", errno.into())),
    }
}

/// Opens a FIFO, close-on-exec and without ever waiting. No link is followed, and nothing else is taken for one.
///
/// # Errors
/// It names the path; [`FifoEnd::Write`] fails while there is no reader.
pub fn open_fifo(path: &Path, end: FifoEnd) -> Result<OwnedFd, FifoError> {
    let failed = |source| FifoError {
        action: "open",
        path: path.to_owned(),
        source,
    };
    let access = match end {
        FifoEnd::Read => OFlags::RDONLY,
        FifoEnd::Write => OFlags::WRONLY,
        FifoEnd::Both => OFlags::RDWR,
    };
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::open(path, flags, Mode::empty())
        .and_then(|fifo| Ok((rustix::fs::fstat(&fifo)?, fifo)));
    let (status, fifo) = opened.map_err(|errno| failed(errno.into()))?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Fifo => Ok(fifo),
        _ => Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "that is no FIFO",
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_already() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        make_fifo(&path, 0o600, Existing::Refused).unwrap();
        let error = make_fifo(&path, 0o600, Existing::Refused).unwrap_err();
        assert!(error.to_string().contains(&path.display().to_string()));
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AlreadyExists);
        make_fifo(&path, 0o600, Existing::Kept).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a file").unwrap();
        make_fifo(&path, 0o600, Existing::Kept).unwrap();
        open_fifo(&path, FifoEnd::Both).unwrap_err();
        make_fifo(&path, 0o600, Existing::Replaced).unwrap();
        open_fifo(&path, FifoEnd::Both).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        open_fifo(&link, FifoEnd::Both).unwrap_err();
    }

    #[test]
    fn ends_meet_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        make_fifo(&path, 0o600, Existing::Refused).unwrap();
        open_fifo(&path, FifoEnd::Write).unwrap_err();
        let reader = open_fifo(&path, FifoEnd::Read).unwrap();
        let writer = open_fifo(&path, FifoEnd::Write).unwrap();
        rustix::io::write(&writer, b"x").unwrap();
        let mut buffer = [0; 2];
        assert_eq!(rustix::io::read(&reader, &mut buffer).unwrap(), 1);
        drop(writer);
        assert_eq!(rustix::io::read(&reader, &mut buffer).unwrap(), 0);
    }
}
