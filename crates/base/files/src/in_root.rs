//! Lookups inside a directory tree that somebody else controls.
//!
//! The kernel resolves every path as if the directory were `/` (`openat2` with `RESOLVE_IN_ROOT`), so neither `..` nor a
//! symlink, however it is swapped meanwhile, leads out of the tree. Results are descriptors, never path strings.

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// `openat2` gives up with EAGAIN when a rename elsewhere races with `..`; so often it is tried again.
const ATTEMPTS: usize = 128;

/// A directory that serves as the root of lookups.
#[derive(Debug)]
pub struct InRoot {
    fd: OwnedFd,
    path: PathBuf,
}

/// What could not be done inside a root.
#[derive(Debug, thiserror::Error)]
#[error("{action} {} in {}", inner.display(), root.display())]
pub struct InRootError {
    /// What was tried.
    pub(crate) action: &'static str,
    /// The root directory.
    pub root: PathBuf,
    /// The path inside it.
    pub inner: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl InRootError {
    /// Whether the path is simply not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

impl InRoot {
    /// Opens the directory `path` of the host as a root.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, InRootError> {
        let path = path.into();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(error) => {
                let inner = PathBuf::from("/");
                Err(InRootError {
                    action: "open",
                    root: path,
                    inner,
                    source: error.into(),
                })
            }
        }
    }

    /// Uses an open directory as a root; `path` only names it in errors.
    pub fn from_fd(fd: OwnedFd, path: impl Into<PathBuf>) -> Self {
        Self {
            fd,
            path: path.into(),
        }
    }

    /// The root's name on the host, for messages. Not for opening anything.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives up the descriptor, an `O_PATH` one unless the root was made of another.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Opens whatever `inner` leads to, following symlinks inside the root, for use as a handle (`O_PATH`).
    pub fn open_path(&self, inner: impl AsRef<Path>) -> Result<OwnedFd, InRootError> {
        self.openat2("look up", inner.as_ref(), OFlags::PATH, 0)
    }

    /// Opens an existing file with `flags` (`O_CLOEXEC` is added).
    pub fn open_file(&self, inner: impl AsRef<Path>, flags: OFlags) -> Result<File, InRootError> {
        self.openat2("open", inner.as_ref(), flags, 0)
            .map(File::from)
    }

    /// Opens a directory as a root of its own.
    pub fn open_dir(&self, inner: impl AsRef<Path>) -> Result<InRoot, InRootError> {
        let inner = inner.as_ref();
        let fd = self.openat2("open directory", inner, OFlags::PATH | OFlags::DIRECTORY, 0)?;
        Ok(InRoot {
            fd,
            path: self.path.join(inner.strip_prefix("/").unwrap_or(inner)),
        })
    }

    /// Opens or creates a file for writing; an existing one is emptied. A symlink at `inner` is followed inside the root.
    pub fn create_file(&self, inner: impl AsRef<Path>, mode: u32) -> Result<File, InRootError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        self.openat2("create", inner.as_ref(), flags, mode)
            .map(File::from)
    }

    /// Creates a file that must not exist yet, not even as a symlink.
    pub fn create_new_file(&self, inner: impl AsRef<Path>, mode: u32) -> Result<File, InRootError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        self.openat2("create", inner.as_ref(), flags, mode)
            .map(File::from)
    }

    /// Replaces the content of a file, creating it when needed.
    pub fn write_file(
        &self,
        inner: impl AsRef<Path>,
        bytes: &[u8],
        mode: u32,
    ) -> Result<(), InRootError> {
        let inner = inner.as_ref();
        self.create_file(inner, mode)?
            .write_all(bytes)
            .map_err(|source| self.error("write", inner, source))
    }

    /// Reads a regular file of at most `limit` bytes. Devices, pipes and sockets are refused, so nothing blocks.
    pub fn read_limited(
        &self,
        inner: impl AsRef<Path>,
        limit: u64,
    ) -> Result<Vec<u8>, InRootError> {
        let inner = inner.as_ref();
        let file = self.open_file(inner, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let fail = |source| self.error("read", inner, source);
        if !file.metadata().map_err(fail)?.is_file() {
            return Err(fail(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            )));
        }
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(fail)?;
        if bytes.len() as u64 > limit {
            return Err(fail(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("more than {limit} bytes"),
            )));
        }
        Ok(bytes)
    }

    /// Attributes of what `inner` leads to, following symlinks inside the root.
    pub fn stat(&self, inner: impl AsRef<Path>) -> Result<Stat, InRootError> {
        let inner = inner.as_ref();
        let fd = self.open_path(inner)?;
        rustix::fs::fstat(&fd).map_err(|error| self.error("stat", inner, error.into()))
    }

    /// Attributes of `inner` itself, be it a symlink.
    pub fn symlink_stat(&self, inner: impl AsRef<Path>) -> Result<Stat, InRootError> {
        let inner = inner.as_ref();
        let fd = self.openat2("look up", inner, OFlags::PATH | OFlags::NOFOLLOW, 0)?;
        rustix::fs::statat(&fd, "", AtFlags::EMPTY_PATH)
            .map_err(|error| self.error("stat", inner, error.into()))
    }

    pub(crate) fn openat2(
        &self,
        action: &'static str,
        inner: &Path,
        flags: OFlags,
        mode: u32,
    ) -> Result<OwnedFd, InRootError> {
        let path = if inner.as_os_str().is_empty() {
            Path::new(".")
        } else {
            inner
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mode = Mode::from_raw_mode(mode);
        let mut result = Err(Errno::AGAIN);
        for _ in 0..ATTEMPTS {
            result = rustix::fs::openat2(&self.fd, path, flags | OFlags::CLOEXEC, mode, resolve);
            if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        result.map_err(|error| self.error(action, inner, error.into()))
    }

    pub(crate) fn error(
        &self,
        action: &'static str,
        inner: &Path,
        source: io::Error,
    ) -> InRootError {
        InRootError {
            action,
            root: self.path.clone(),
            inner: inner.to_owned(),
            source,
        }
    }
}

impl AsFd for InRoot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests;
