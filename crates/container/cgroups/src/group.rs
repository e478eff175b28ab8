//! The handle of one cgroup.

use std::path::{Path, PathBuf};

use crate::{CgroupLayout, CgroupPath};

/// One cgroup, by its place. Holding a handle keeps nothing alive; [`Cgroup::remove`] gives the cgroup back.
#[derive(Debug, Clone)]
pub struct Cgroup {
    pub(crate) layout: &'static CgroupLayout,
    pub(crate) path: CgroupPath,
    pub(crate) directory: String,
}

impl Cgroup {
    /// A handle on a cgroup that may or may not exist. Touches nothing.
    pub fn at(layout: &'static CgroupLayout, path: CgroupPath) -> Self {
        let directory = path.directory();
        Self {
            layout,
            path,
            directory,
        }
    }

    /// Its place.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// The directory that holds the files of `controller` (on version 2 the same for all), if the host has it.
    pub fn controller_directory(&self, controller: &str) -> Option<PathBuf> {
        self.layout
            .root_for(controller)
            .map(|root| root.join(&self.directory))
    }

    /// All its directories, one per hierarchy.
    pub fn directories(&self) -> Vec<PathBuf> {
        self.layout
            .roots()
            .into_iter()
            .map(|root| root.join(&self.directory))
            .collect()
    }

    /// Whether it exists, in any hierarchy.
    pub fn exists(&self) -> bool {
        self.directories()
            .iter()
            .any(|directory| directory.is_dir())
    }

    /// The hierarchy used to look up the members.
    pub(crate) fn member_directory(&self) -> Option<PathBuf> {
        match self.layout {
            CgroupLayout::Unified(root) => Some(root.join(&self.directory)),
            // The first one that has it: a hierarchy mounted later may lack the directory.
            CgroupLayout::Legacy { .. } => self
                .directories()
                .into_iter()
                .find(|directory| directory.is_dir()),
        }
    }
}

/// The parts of `directory` below `root`, outermost first, ending with the directory itself.
pub(crate) fn levels(root: &Path, directory: &str) -> Vec<PathBuf> {
    let mut path = root.to_path_buf();
    directory
        .split('/')
        .map(|part| {
            path.push(part);
            path.clone()
        })
        .collect()
}
