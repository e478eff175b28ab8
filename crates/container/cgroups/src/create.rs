//! Making a cgroup in one pass.

use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use rustix::process::Pid;

use crate::group::levels;
use crate::{ApplyLimitsError, Cgroup, CgroupLayout, CgroupPath, SystemdError, files, systemd};

/// Something asked for that the host cannot do; the container runs without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupWarning {
    /// The controller concerned.
    pub controller: String,
    /// What is missing and why.
    pub message: String,
}

/// Why a cgroup could not be made. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum CreateCgroupError {
    /// A directory could not be made.
    #[error("cannot make the cgroup directory `{}`", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The version 1 cpuset of a new cgroup could not be filled from its parent.
    #[error("cannot inherit `{}` from the parent cgroup", file.display())]
    Cpuset {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// systemd refused the unit.
    #[error("systemd did not make the unit for cgroup `{path}`")]
    Systemd {
        /// The cgroup.
        path: CgroupPath,
        /// Why.
        source: Box<SystemdError>,
    },
    /// A limit could not be set.
    #[error("cannot set the limits of the new cgroup `{path}`")]
    Limits {
        /// The cgroup.
        path: CgroupPath,
        /// Why.
        source: ApplyLimitsError,
    },
    /// It exists and has processes in it, so it is somebody else's.
    #[error("cgroup `{path}` exists and has {members} processes in it")]
    InUse {
        /// The cgroup.
        path: CgroupPath,
        /// How many processes.
        members: usize,
    },
}

impl Cgroup {
    /// Makes the cgroup with these limits.
    ///
    /// With a systemd scope, `member` (the calling process when `None`) is moved into it, because a scope cannot be
    /// empty; children forked afterwards are born inside. In all other cases nobody is moved.
    ///
    /// # Errors
    /// Nothing is left behind. A limit the host has no controller for is a warning.
    pub fn create(
        layout: &'static CgroupLayout,
        path: CgroupPath,
        resources: Option<&LinuxResources>,
        member: Option<Pid>,
    ) -> Result<(Self, Vec<CgroupWarning>), CreateCgroupError> {
        let group = Self::at(layout, path);
        if matches!(group.path, CgroupPath::Scope { .. }) {
            group.check_unused()?;
        }
        match group.make(resources, member) {
            Ok(warnings) => Ok((group, warnings)),
            // Nothing of it is ours.
            Err(error @ CreateCgroupError::InUse { .. }) => Err(error),
            Err(error) => {
                // The error at hand matters more than one of its clean-up.
                let _ = group.remove();
                Err(error)
            }
        }
    }

    fn make(
        &self,
        resources: Option<&LinuxResources>,
        member: Option<Pid>,
    ) -> Result<Vec<CgroupWarning>, CreateCgroupError> {
        systemd::start_unit(&self.path, resources, self.layout, member).map_err(|error| {
            CreateCgroupError::Systemd {
                path: self.path.clone(),
                source: Box::new(error),
            }
        })?;
        let mut warnings = self.make_directories()?;
        if let Some(resources) = resources {
            let applied =
                self.apply_new(resources)
                    .map_err(|source| CreateCgroupError::Limits {
                        path: self.path.clone(),
                        source,
                    })?;
            warnings.extend(applied);
        }
        Ok(warnings)
    }

    fn check_unused(&self) -> Result<(), CreateCgroupError> {
        match self.processes().map_or(0, |list| list.len()) {
            0 => Ok(()),
            members => Err(CreateCgroupError::InUse {
                path: self.path.clone(),
                members,
            }),
        }
    }

    fn make_directories(&self) -> Result<Vec<CgroupWarning>, CreateCgroupError> {
        // Only asked for where a directory is there already; a unit of systemd's has its first process by now.
        let check = |made| match (&self.path, made) {
            (CgroupPath::Directory(_), Made::WasThere) => self.check_unused(),
            _ => Ok(()),
        };
        match self.layout {
            CgroupLayout::Unified(root) => {
                let (warnings, made) = make_unified(root, &self.directory)?;
                check(made).map(|()| warnings)
            }
            CgroupLayout::Legacy { hierarchies, .. } => {
                let mut own = Vec::new();
                for hierarchy in hierarchies {
                    let levels = levels(&hierarchy.mount_point, &self.directory);
                    let cpuset = hierarchy.controllers.iter().any(|name| name == "cpuset");
                    let made = make_legacy(&levels, cpuset)?;
                    if let Err(in_use) = check(made) {
                        for directory in own {
                            let _ = std::fs::remove_dir(directory);
                        }
                        return Err(in_use);
                    }
                    own.extend(levels.into_iter().next_back().filter(|_| made == Made::New));
                }
                Ok(Vec::new())
            }
        }
    }
}

/// Whether a directory is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    New,
    WasThere,
}

fn make_legacy(levels: &[PathBuf], cpuset: bool) -> Result<Made, CreateCgroupError> {
    // The usual case is that all parents exist: one call instead of one per level.
    let Some((last, parents)) = levels.split_last() else {
        return Ok(Made::WasThere);
    };
    let made = match std::fs::create_dir(last) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            for level in parents {
                make_directory(level)?;
                if cpuset {
                    inherit_cpuset(level)?;
                }
            }
            make_directory(last)?
        }
        made => outcome(made, last)?,
    };
    if cpuset {
        inherit_cpuset(last)?;
    }
    Ok(made)
}

/// A fresh version 1 cpuset is empty and then admits no process.
fn inherit_cpuset(directory: &Path) -> Result<(), CreateCgroupError> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = directory.join(name);
        let fill = || -> io::Result<()> {
            if !files::read(&file)?.trim().is_empty() {
                return Ok(());
            }
            let parent = directory.parent().unwrap_or(directory).join(name);
            files::write(&file, files::read(&parent)?.trim())
        };
        fill().map_err(|source| CreateCgroupError::Cpuset {
            file: file.clone(),
            source,
        })?;
    }
    Ok(())
}

fn make_unified(
    root: &Path,
    directory: &str,
) -> Result<(Vec<CgroupWarning>, Made), CreateCgroupError> {
    let mut warnings = Vec::new();
    let mut made = Made::WasThere;
    let mut parent = root.to_path_buf();
    for level in levels(root, directory) {
        warnings.extend(enable_controllers(&parent));
        made = make_directory(&level)?;
        parent = level;
    }
    Ok((warnings, made))
}

/// Hands every controller the parent has to its children. One that cannot be handed on shows up again when a limit
/// of it is asked for, as an error there; here it is a note.
fn enable_controllers(parent: &Path) -> Vec<CgroupWarning> {
    let available = files::read(&parent.join("cgroup.controllers")).unwrap_or_default();
    let control = parent.join("cgroup.subtree_control");
    let enabled = files::read(&control).unwrap_or_default();
    let missing: Vec<&str> = available
        .split_whitespace()
        .filter(|name| !enabled.split_whitespace().any(|on| on == *name))
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let all = missing
        .iter()
        .map(|name| format!("+{name}"))
        .collect::<Vec<_>>()
        .join(" ");
    if files::write(&control, &all).is_ok() {
        return Vec::new();
    }
    // One that fails must not keep back the others.
    missing
        .into_iter()
        .filter_map(|name| {
            let error = files::write(&control, &format!("+{name}")).err()?;
            Some(CgroupWarning {
                controller: name.into(),
                message: format!("cannot enable it in `{}`: {error}", control.display()),
            })
        })
        .collect()
}

fn make_directory(directory: &Path) -> Result<Made, CreateCgroupError> {
    outcome(std::fs::create_dir(directory), directory)
}

fn outcome(made: io::Result<()>, directory: &Path) -> Result<Made, CreateCgroupError> {
    match made {
        Ok(()) => Ok(Made::New),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Made::WasThere),
        Err(source) => Err(CreateCgroupError::Directory {
            directory: directory.into(),
            source,
        }),
    }
}
