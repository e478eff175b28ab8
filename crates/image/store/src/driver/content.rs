//! Where a layer's content is, for as long as somebody looks at it.

use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The directory with a layer's content. What must be mounted for it is mounted until this is dropped, unless files of it
/// are still open.
#[derive(Debug)]
pub struct LayerContent {
    path: PathBuf,
    held: Vec<OwnedFd>,
}

impl LayerContent {
    /// A directory that is always there.
    pub(super) fn at(path: PathBuf) -> Self {
        Self {
            path,
            held: Vec::new(),
        }
    }

    /// An open directory, which may be in no other.
    pub(super) fn of(directory: OwnedFd) -> Self {
        Self {
            // With the dot it is no link, which some refuse to follow.
            path: format!("/proc/self/fd/{}/.", directory.as_raw_fd()).into(),
            held: vec![directory],
        }
    }

    /// The same, with what it depends on.
    pub(super) fn keeping(mut self, held: OwnedFd) -> Self {
        self.held.push(held);
        self
    }
}

impl Deref for LayerContent {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for LayerContent {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}
