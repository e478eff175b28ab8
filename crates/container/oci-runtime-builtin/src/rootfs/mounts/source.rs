//! Bind sources, opened before the container's first process exists.
//!
//! The creating process still has the host's view and all its rights, so the sources are resolved there as detached
//! copies; the new process only attaches them. A container with a user namespace so gets sources that its
//! own root could not reach, and nothing it does later can change what a path meant.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crioxide_sys::mount_attributes::{MountChange, Propagation, Reach};
use oci_spec::runtime::Mount;
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::options::MountOptions;
use crate::process::id_mapping::mapping_namespace;
use crate::setup_error::{SetupError, at};

/// One mount of the configuration, with its source if it binds one.
#[derive(Debug)]
pub(crate) struct PreparedMount {
    pub(crate) destination: PathBuf,
    pub(crate) kind: String,
    pub(crate) source_name: PathBuf,
    pub(crate) options: MountOptions,
    pub(crate) tree: Option<OwnedFd>,
}

/// How mounts made on the host reach the container and the other way round, before any mount says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootPropagation {
    Shared,
    Slave,
    Private,
    Unbindable,
}

impl RootPropagation {
    pub(crate) fn parse(text: Option<&str>) -> Option<Self> {
        Some(match text.unwrap_or_default().trim_start_matches('r') {
            "" | "slave" => Self::Slave,
            "shared" => Self::Shared,
            "private" => Self::Private,
            "unbindable" => Self::Unbindable,
            _ => return None,
        })
    }

    /// What to make of a copy of a host mount; `None` leaves it a peer of the host's.
    fn of_copies(self) -> Option<Propagation> {
        match self {
            Self::Shared => None,
            Self::Slave => Some(Propagation::Slave),
            Self::Private | Self::Unbindable => Some(Propagation::Private),
        }
    }
}

impl PreparedMount {
    /// Parses the options and opens the source of a bind.
    pub(crate) fn open(
        mount: &Mount,
        base: &Path,
        root: RootPropagation,
    ) -> Result<Self, SetupError> {
        let kind = mount.typ().clone().unwrap_or_default();
        let options = MountOptions::parse(&kind, mount.options().as_deref().unwrap_or_default());
        let source_name = mount
            .source()
            .clone()
            .unwrap_or_else(|| PathBuf::from(&kind));
        let tree = match options.bind {
            None => None,
            Some(reach) => {
                // A relative source is relative to the bundle.
                let path = base.join(&source_name);
                let tree = copy_tree(&path, reach, root)?;
                if let Some(reach) = options
                    .id_map
                    .or_else(|| mapped(mount).then_some(Reach::Single))
                {
                    map_ids(mount, &tree, reach).map_err(|error| match error {
                        MapIdsError::Setup(error) => error,
                        MapIdsError::Kernel(source) => SetupError::Path {
                            action: "map the ids of mount",
                            path,
                            source,
                        },
                    })?;
                }
                Some(tree)
            }
        };
        Ok(Self {
            destination: mount.destination().clone(),
            kind,
            source_name,
            options,
            tree,
        })
    }
}

/// A detached copy of the mount at `path`, with what is mounted below if `reach` says so.
pub(crate) fn copy_tree(
    path: &Path,
    reach: Reach,
    root: RootPropagation,
) -> Result<OwnedFd, SetupError> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if reach == Reach::Recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, path, flags).map_err(at("open mount source", path))?;
    if let Some(propagation) = root.of_copies() {
        MountChange::new()
            .propagation(propagation)
            .apply(&tree, Reach::Recursive)
            .map_err(at("change the propagation of", path))?;
    }
    Ok(tree)
}

enum MapIdsError {
    Setup(SetupError),
    Kernel(std::io::Error),
}

fn mapped(mount: &Mount) -> bool {
    mount
        .uid_mappings()
        .as_ref()
        .is_some_and(|list| !list.is_empty())
        || mount
            .gid_mappings()
            .as_ref()
            .is_some_and(|list| !list.is_empty())
}

fn map_ids(mount: &Mount, tree: &OwnedFd, reach: Reach) -> Result<(), MapIdsError> {
    let uids = mount.uid_mappings().as_deref().unwrap_or_default();
    let gids = mount.gid_mappings().as_deref().unwrap_or_default();
    let namespace = mapping_namespace(uids, gids).map_err(MapIdsError::Setup)?;
    MountChange::new()
        .id_mapped_by(namespace.as_fd())
        .apply(tree, reach)
        .map_err(MapIdsError::Kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn propagation_names() {
        assert_eq!(RootPropagation::parse(None), Some(RootPropagation::Slave));
        assert_eq!(
            RootPropagation::parse(Some("rshared")),
            Some(RootPropagation::Shared)
        );
        assert_eq!(
            RootPropagation::parse(Some("private")),
            Some(RootPropagation::Private)
        );
        assert_eq!(RootPropagation::parse(Some("sideways")), None);
    }
}
