//! Making directories inside a root.

use crate::{InRoot, InRootError};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

impl InRoot {
    /// Makes `inner` and all missing directories above it, and returns `inner` as a handle (`O_PATH`).
    ///
    /// Existing symlinks to directories are followed inside the root; a dangling one is an error.
    pub fn mkdir_all(&self, inner: impl AsRef<Path>, mode: u32) -> Result<OwnedFd, InRootError> {
        let inner = inner.as_ref();
        match self.open_directory(inner) {
            Err(error) if error.is_not_found() => self.mkdir_missing(inner, mode),
            found_or_failed => found_or_failed,
        }
    }

    /// The directory that holds the last component of `inner`, and that component. `None` when `inner` is the root itself
    /// or ends in `..`.
    pub fn parent_of<'p>(
        &self,
        inner: &'p Path,
    ) -> Option<(Result<OwnedFd, InRootError>, &'p std::ffi::OsStr)> {
        let name = inner.file_name()?;
        Some((
            self.open_directory(inner.parent().unwrap_or(Path::new(""))),
            name,
        ))
    }

    fn mkdir_missing(&self, inner: &Path, mode: u32) -> Result<OwnedFd, InRootError> {
        let mut prefix = PathBuf::new();
        let mut directory = self.open_directory(&prefix)?;
        for component in inner.components() {
            prefix.push(match component {
                Component::Normal(name) => Path::new(name),
                Component::ParentDir => Path::new(".."),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            });
            directory = match self.open_directory(&prefix) {
                Err(error) if error.is_not_found() => {
                    if let Component::Normal(name) = component {
                        match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(mode)) {
                            Ok(()) | Err(Errno::EXIST) => {}
                            Err(error) => {
                                return Err(self.error("make directory", &prefix, error.into()));
                            }
                        }
                        self.enter(directory.as_fd(), name, &prefix)?
                    } else {
                        return Err(error);
                    }
                }
                found_or_failed => found_or_failed?,
            };
        }
        Ok(directory)
    }

    /// Opens the directory just made, and nothing that was put in its place.
    fn enter(
        &self,
        parent: rustix::fd::BorrowedFd<'_>,
        name: &std::ffi::OsStr,
        prefix: &Path,
    ) -> Result<OwnedFd, InRootError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::empty())
            .map_err(|error| self.error("open directory", prefix, error.into()))
    }

    fn open_directory(&self, inner: &Path) -> Result<OwnedFd, InRootError> {
        self.openat2("open directory", inner, OFlags::PATH | OFlags::DIRECTORY, 0)
    }
}
