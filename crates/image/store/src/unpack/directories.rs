//! Descriptors of the directories being filled, so that most files cost no path lookup.

use super::UnpackError;
use super::path::MAX_DEPTH;
use crioxide_files::InRoot;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
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
    /// Whether there may be symlinks, through which a short name can lead deep.
    links: bool,
    /// Length of the root's own path, found when there are links.
    base: Option<usize>,
}

impl Directories {
    pub(super) fn new(root: InRoot) -> Self {
        Self {
            root,
            recent: Vec::with_capacity(KEPT),
            links: false,
            base: None,
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

    /// From now on names may lead through symlinks.
    pub(super) fn beware_of_links(&mut self) {
        self.links = true;
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
        if self.links && self.is_too_deep(&fd) {
            return Err(UnpackError::deep(&key));
        }
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

    /// Whether the directory lies deeper than any should, whatever it is called. Where procfs does not say, nothing is
    /// known; the kernel does not say where the path is longer than any can be.
    fn is_too_deep(&mut self, fd: &OwnedFd) -> bool {
        let base = *self
            .base
            .get_or_insert_with(|| path_of(&self.root).map_or(0, |path| path.len()));
        match path_of(fd) {
            Ok(path) => {
                let inside = path.get(base..).unwrap_or_default();
                inside.iter().filter(|&&byte| byte == b'/').count() >= MAX_DEPTH
            }
            Err(error) => error == Errno::NAMETOOLONG,
        }
    }
}

fn path_of(fd: impl AsFd) -> Result<Vec<u8>, Errno> {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    Ok(rustix::fs::readlink(link, Vec::new())?.into_bytes())
}
