//! The container's view of its cgroups below `/sys/fs/cgroup`.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use crioxide_sys::mount_attributes::{MountChange, Reach};
use oci_spec::runtime::Mount;
use rustix::fs::FileType;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::attach::{AttachContext, mount_point, place};
use super::source::{PreparedMount, RootPropagation, copy_tree};
use crate::setup_error::{SetupError, at};

/// What there is to show, prepared on the host.
#[derive(Debug)]
pub(crate) enum CgroupView {
    /// The configuration mounts no cgroups.
    None,
    /// Version 2: one mount.
    Unified {
        /// Whether the container has a cgroup namespace, in which it mounts the hierarchy anew.
        private: bool,
        /// What is bound otherwise: with a namespace the container's own directory, without one the host's root,
        /// so that the paths in `/proc/self/cgroup` hold.
        tree: OwnedFd,
    },
    /// Version 1: one directory for each hierarchy.
    Legacy(Vec<LegacyHierarchy>),
}

/// One version 1 hierarchy.
#[derive(Debug)]
pub(crate) struct LegacyHierarchy {
    /// Directory name below `/sys/fs/cgroup`.
    name: String,
    /// Controllers, also names of symlinks when several share a hierarchy.
    controllers: Vec<String>,
    /// Copy of the container's directory.
    own: OwnedFd,
}

impl CgroupView {
    /// The open descriptors.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        match self {
            Self::None => Vec::new(),
            Self::Unified { tree, .. } => vec![tree.as_raw_fd()],
            Self::Legacy(hierarchies) => hierarchies
                .iter()
                .map(|hierarchy| hierarchy.own.as_raw_fd())
                .collect(),
        }
    }

    /// Opens what the mounts of the configuration will show. `directories` are the container's own, one per hierarchy,
    /// each with its mount point's controllers.
    pub(crate) fn open(
        mounts: &[Mount],
        unified: Option<&Path>,
        private: bool,
        directories: &[(PathBuf, Vec<String>)],
    ) -> Result<Self, SetupError> {
        let wanted = |mount: &Mount| matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"));
        if !mounts.iter().any(wanted) {
            return Ok(Self::None);
        }
        let copy = |path: &Path| copy_tree(path, Reach::Single, RootPropagation::Private);
        if let Some(root) = unified {
            let own = directories
                .first()
                .map_or(root, |(directory, _)| directory.as_path());
            return Ok(Self::Unified {
                private,
                tree: copy(if private { own } else { root })?,
            });
        }
        let mut hierarchies = Vec::new();
        for (directory, controllers) in directories {
            let name = controllers.join(",");
            hierarchies.push(LegacyHierarchy {
                name: name.strip_prefix("name=").unwrap_or(&name).to_owned(),
                controllers: controllers.clone(),
                own: copy(directory)?,
            });
        }
        Ok(Self::Legacy(hierarchies))
    }
}

/// Attaches the view at the mount's destination and returns the top mount.
pub(crate) fn attach(
    mount: &PreparedMount,
    context: &AttachContext<'_>,
) -> Result<OwnedFd, SetupError> {
    let target = mount_point(context.root, &mount.destination, FileType::Directory)?;
    match context.cgroup_view {
        CgroupView::None => Err(SetupError::Unexpected {
            path: mount.destination.clone(),
            found: "no cgroup hierarchy on this host",
        }),
        CgroupView::Unified { private, tree } => {
            let attributes = mount.options.attributes.set;
            // A mount made anew outside of a cgroup namespace would change the options of the host's.
            let fresh = if *private {
                new_unified(attributes).ok()
            } else {
                None
            };
            let fd = match fresh {
                Some(fd) => fd,
                None => {
                    set(tree, attributes, &mount.destination)?;
                    rustix::io::dup(tree).map_err(at("keep mount", &mount.destination))?
                }
            };
            place(fd.as_fd(), target.as_fd(), &mount.destination)?;
            Ok(fd)
        }
        CgroupView::Legacy(hierarchies) => attach_legacy(mount, context, hierarchies, target),
    }
}

fn attach_legacy(
    mount: &PreparedMount,
    context: &AttachContext<'_>,
    hierarchies: &[LegacyHierarchy],
    target: OwnedFd,
) -> Result<OwnedFd, SetupError> {
    let destination = &mount.destination;
    let attributes = mount.options.attributes.set;
    let top = new_tmpfs(context.label).map_err(at("make a tmpfs for", destination))?;
    for hierarchy in hierarchies {
        let name = hierarchy.name.as_str();
        rustix::fs::mkdirat(&top, name, rustix::fs::Mode::from_raw_mode(0o755))
            .map_err(at("make a directory in", destination))?;
        if hierarchy.controllers.len() > 1 {
            for controller in &hierarchy.controllers {
                rustix::fs::symlinkat(name, &top, controller.as_str())
                    .map_err(at("make a symlink in", destination))?;
            }
        }
    }
    place(top.as_fd(), target.as_fd(), destination)?;
    for hierarchy in hierarchies {
        let path = destination.join(&hierarchy.name);
        // The tmpfs is ours and just made, so a plain lookup in it meets nothing foreign.
        let flags =
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let place_fd = rustix::fs::openat(
            &top,
            hierarchy.name.as_str(),
            flags,
            rustix::fs::Mode::empty(),
        )
        .map_err(at("open", &path))?;
        set(&hierarchy.own, attributes, &path)?;
        place(hierarchy.own.as_fd(), place_fd.as_fd(), &path)?;
    }
    set(&top, attributes, destination)?;
    Ok(top)
}

fn set(mount: &OwnedFd, attributes: MountAttrFlags, path: &Path) -> Result<(), SetupError> {
    let change = MountChange::new().attributes(
        attributes & !MountAttrFlags::MOUNT_ATTR__ATIME,
        MountAttrFlags::empty(),
    );
    if change.is_empty() {
        return Ok(());
    }
    change
        .apply(mount, Reach::Single)
        .map_err(at("set the options of mount", path))
}

fn new_unified(attributes: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // As other runtimes name it; without a source the mount table says `none`.
    fsconfig_set_string(&context, "source", "cgroup")?;
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn new_tmpfs(label: Option<&str>) -> rustix::io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "mode", "755")?;
    if let Some(label) = label {
        fsconfig_set_string(&context, "context", label)?;
    }
    fsconfig_create(&context)?;
    fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}
