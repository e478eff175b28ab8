//! Network namespaces held by descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

use crioxide_sys::namespaces::{self, Visit};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Magic number of the kernel's namespace file system.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// An open network namespace. It stays alive as long as the descriptor does.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
}

/// A network namespace could not be opened or entered.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The path does not lead to a namespace: nothing is there, or a plain file is (the leftover of
    /// a pin whose mount went away, as after a reboot).
    #[error("no network namespace at `{}`", path.display())]
    Gone {
        /// The path that was to be opened.
        path: PathBuf,
    },
    /// The path exists but could not be opened.
    #[error("open network namespace `{}`", path.display())]
    Open {
        /// The path that was to be opened.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel makes no new namespace.
    #[error("make a network namespace")]
    Make {
        /// What the kernel said.
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error("enter network namespace `{}`", path.display())]
    Enter {
        /// The path it was opened from.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Netns {
    /// Opens the namespace pinned at `path` (or any `/proc/<pid>/ns/net`).
    ///
    /// # Errors
    /// [`NetnsError::Gone`] when there is no namespace behind the path.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        let file = File::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => NetnsError::Gone {
                path: path.to_owned(),
            },
            _ => NetnsError::Open {
                path: path.to_owned(),
                source,
            },
        })?;
        let status = rustix::fs::fstatfs(&file).map_err(|errno| NetnsError::Open {
            path: path.to_owned(),
            source: errno.into(),
        })?;
        if u64::try_from(status.f_type).ok() != Some(NSFS_MAGIC) {
            return Err(NetnsError::Gone {
                path: path.to_owned(),
            });
        }
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// The namespace the calling thread is in.
    ///
    /// # Errors
    /// When `/proc` is missing.
    pub fn current() -> Result<Self, NetnsError> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Makes a namespace, and runs `work` inside. Nothing but the value holds it.
    ///
    /// # Errors
    /// When the kernel makes none.
    pub fn create<T>(work: impl FnOnce() -> T) -> Result<(Self, T), NetnsError> {
        let failed = |source| NetnsError::Make { source };
        let _visit = Visit::begin(UnshareFlags::NEWNET).map_err(failed)?;
        namespaces::unshare(UnshareFlags::NEWNET).map_err(failed)?;
        Ok((Self::current()?, work()))
    }

    /// Runs `work` inside the namespace and returns what it returned. The calling thread is back before this returns,
    /// whatever happens.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, NetnsError> {
        let failed = |source| NetnsError::Enter {
            path: self.path.clone(),
            source,
        };
        let _visit = Visit::begin(UnshareFlags::NEWNET).map_err(failed)?;
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|errno| failed(errno.into()))?;
        Ok(work())
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The descriptor's number, as netlink attributes carry it.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_files_and_missing_paths_are_gone() {
        let error = Netns::open(Path::new("/proc/version")).unwrap_err();
        assert!(matches!(error, NetnsError::Gone { .. }), "{error}");
        let error = Netns::open(Path::new("/nonexistent/netns")).unwrap_err();
        assert!(matches!(error, NetnsError::Gone { .. }), "{error}");
        assert_eq!(
            Netns::current().unwrap().path(),
            Path::new("/proc/thread-self/ns/net")
        );
    }
}
