//! Descriptors of the directories being filled, so that most files cost no path lookup.

use super::UnpackError;
use crioxide_files::InRoot;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

/// Archives walk trees depth first: the recent directories are few.
const KEPT: usize = 32;

/// Missing parents of an entry get this mode, as upstream gives them.
const IMPLIED_MODE: u32 = 0o755;

/// An open directory inside the layer.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    /// What is made inside gets the directory's group.
    pub(super) sets_group: bool,
}

/// The most recently used directories of a layer.
#[derive(Debug)]
pub(super) struct Directories {
    pub(super) root: InRoot,
    recent: Vec<(Vec<u8>, Rc<Directory>)>,
}

impl Directories {
    pub(super) fn new(root: InRoot) -> Self {
        Self {
            root,
            recent: Vec::with_capacity(KEPT),
        }
    }

    /// The directory with those components, made if it is missing. Symlinks that the layer itself holds are followed
    /// inside it.
    pub(super) fn make(&mut self, components: &[&[u8]]) -> Result<Rc<Directory>, UnpackError> {
        self.get(components, |root, path| root.mkdir_all(path, IMPLIED_MODE))
    }

    /// The existing directory with those components.
    pub(super) fn find(&mut self, components: &[&[u8]]) -> Result<Rc<Directory>, UnpackError> {
        self.get(components, |root, path| {
            root.open_dir(path).map(InRoot::into_fd)
        })
    }

    /// Forgets all descriptors: something that may be one of them, or on the way to one, was replaced.
    pub(super) fn forget(&mut self) {
        self.recent.clear();
    }

    fn get(
        &mut self,
        components: &[&[u8]],
        open: impl FnOnce(&InRoot, &Path) -> Result<OwnedFd, crioxide_files::InRootError>,
    ) -> Result<Rc<Directory>, UnpackError> {
        let key = components.join(&b'/');
        if let Some(at) = self.recent.iter().rposition(|(known, _)| *known == key) {
            // The most recent last: it is the one asked for next.
            let hit = self.recent.remove(at);
            let directory = Rc::clone(&hit.1);
            self.recent.push(hit);
            return Ok(directory);
        }
        let path = Path::new(OsStr::from_bytes(&key));
        let fd = open(&self.root, path)?;
        let status = rustix::fs::fstat(&fd).map_err(|error| UnpackError::Entry {
            name: UnpackError::printable(&key),
            action: "look at the directory",
            source: error.into(),
        })?;
        let directory = Rc::new(Directory {
            fd,
            sets_group: status.st_mode & 0o2000 != 0,
        });
        if self.recent.len() == KEPT {
            self.recent.remove(0);
        }
        self.recent.push((key, Rc::clone(&directory)));
        Ok(directory)
    }
}
