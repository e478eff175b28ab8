//! Reading and checking a bundle's `config.json`.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crioxide_files::{ReadLimitedError, read_limited};
use oci_spec::runtime::{Linux, LinuxNamespaceType, Process, Spec};

use crate::rootfs::mounts::source::RootPropagation;
use crate::rootfs::private_proc::sysctl_path;

/// Largest `config.json` that is read.
const CONFIG_LIMIT: u64 = 16 << 20;

/// Highest id a user may have; the one above means "unchanged" to the kernel.
const MAX_ID: u32 = u32::MAX - 1;

/// Why a bundle cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// `config.json` cannot be read.
    #[error("read the bundle's configuration")]
    Read(#[from] ReadLimitedError),
    /// It is not what the OCI specification describes.
    #[error("parse `{}`", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A part is missing.
    #[error("configuration has no `{field}`")]
    Missing {
        /// The part.
        field: &'static str,
    },
    /// A value that cannot be.
    #[error("configuration: `{field}` is `{value}`: {reason}")]
    Invalid {
        /// Where.
        field: &'static str,
        /// What it says.
        value: String,
        /// Why it cannot be.
        reason: &'static str,
    },
    /// A setting that would take effect on the host.
    #[error("sysctl `{name}` is not in a namespace of the container's own")]
    HostSysctl {
        /// The sysctl.
        name: String,
    },
    /// Something about the host could not be found out.
    #[error("look at `{}`", path.display())]
    Look {
        /// What was looked at.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// A checked configuration.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) directory: PathBuf,
    pub(crate) spec: Spec,
    pub(crate) process: Process,
    pub(crate) linux: Linux,
    pub(crate) root_path: PathBuf,
    pub(crate) root_read_only: bool,
    pub(crate) propagation: RootPropagation,
}

impl Bundle {
    /// Reads and checks the configuration in `directory`.
    pub(crate) fn load(directory: &Path) -> Result<Self, BundleError> {
        let directory = std::path::absolute(directory).map_err(|source| BundleError::Look {
            path: directory.to_owned(),
            source,
        })?;
        let spec = read_spec(&directory)?;
        let process = spec
            .process()
            .clone()
            .ok_or(BundleError::Missing { field: "process" })?;
        let linux = spec
            .linux()
            .clone()
            .ok_or(BundleError::Missing { field: "linux" })?;
        let root = spec
            .root()
            .as_ref()
            .ok_or(BundleError::Missing { field: "root" })?;
        let propagation = linux.rootfs_propagation().as_deref();
        let propagation =
            RootPropagation::parse(propagation).ok_or_else(|| BundleError::Invalid {
                field: "linux.rootfsPropagation",
                value: propagation.unwrap_or_default().to_owned(),
                reason: "not a propagation type",
            })?;
        let bundle = Self {
            root_path: directory.join(root.path()),
            root_read_only: root.readonly().unwrap_or(false),
            directory,
            process,
            linux,
            propagation,
            spec,
        };
        bundle.check()?;
        Ok(bundle)
    }

    fn check(&self) -> Result<(), BundleError> {
        check_process(&self.process)?;
        let namespaces = self.linux.namespaces().as_deref().unwrap_or_default();
        let has = |kind| namespaces.iter().any(|namespace| namespace.typ() == kind);
        for (index, namespace) in namespaces.iter().enumerate() {
            if namespaces[..index]
                .iter()
                .any(|earlier| earlier.typ() == namespace.typ())
            {
                return Err(BundleError::Invalid {
                    field: "linux.namespaces",
                    value: namespace.typ().to_string(),
                    reason: "listed more than once",
                });
            }
        }
        if !has(LinuxNamespaceType::Mount) {
            return Err(BundleError::Missing {
                field: "linux.namespaces: mount",
            });
        }
        for (field, name) in [
            ("hostname", self.spec.hostname()),
            ("domainname", self.spec.domainname()),
        ] {
            if let Some(name) = name
                .as_ref()
                .filter(|name| !name.is_empty() && !has(LinuxNamespaceType::Uts))
            {
                return Err(BundleError::Invalid {
                    field,
                    value: name.clone(),
                    reason: "needs a UTS namespace of the container's own",
                });
            }
        }
        for mount in self.spec.mounts().iter().flatten() {
            let destination = mount.destination();
            if !destination.is_absolute() {
                return Err(BundleError::Invalid {
                    field: "mounts.destination",
                    value: destination.display().to_string(),
                    reason: "not an absolute path",
                });
            }
        }
        self.check_sysctls()
    }

    /// Every sysctl must belong to a namespace that is not the host's.
    fn check_sysctls(&self) -> Result<(), BundleError> {
        for (name, value) in self.linux.sysctl().iter().flatten() {
            let path = sysctl_path(name);
            let well_formed = !path.is_empty()
                && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
                && !path.contains('\0')
                && !value.contains('\0');
            if !well_formed {
                let reason = "not the name of a sysctl";
                return Err(BundleError::Invalid {
                    field: "linux.sysctl",
                    value: name.clone(),
                    reason,
                });
            }
            let namespace = sysctl_namespace(&path);
            if !namespace
                .map(|kind| self.is_own(kind))
                .transpose()?
                .unwrap_or(false)
            {
                return Err(BundleError::HostSysctl { name: name.clone() });
            }
        }
        Ok(())
    }

    /// Whether the container's namespace of this kind is another one than this process's.
    fn is_own(&self, kind: LinuxNamespaceType) -> Result<bool, BundleError> {
        let mut listed = self.linux.namespaces().iter().flatten();
        let Some(namespace) = listed.find(|namespace| namespace.typ() == kind) else {
            return Ok(false);
        };
        let Some(path) = namespace.path() else {
            return Ok(true);
        };
        let host = PathBuf::from(match kind {
            LinuxNamespaceType::Network => "/proc/self/ns/net",
            LinuxNamespaceType::Ipc => "/proc/self/ns/ipc",
            _ => "/proc/self/ns/uts",
        });
        let look = |path: &Path| {
            std::fs::metadata(path).map_err(|source| BundleError::Look {
                path: path.to_owned(),
                source,
            })
        };
        let (own, host) = (look(path)?, look(&host)?);
        Ok((own.dev(), own.ino()) != (host.dev(), host.ino()))
    }
}

/// Reads `config.json` without checking what it says.
pub(crate) fn read_spec(directory: &Path) -> Result<Spec, BundleError> {
    let path = directory.join("config.json");
    let bytes = read_limited(&path, CONFIG_LIMIT)?;
    serde_json::from_slice(&bytes).map_err(|source| BundleError::Parse { path, source })
}

/// Checks what is the same for the first and for any further process.
pub(crate) fn check_process(process: &Process) -> Result<(), BundleError> {
    let user = process.user();
    let mut ids = vec![
        ("process.user.uid", user.uid()),
        ("process.user.gid", user.gid()),
    ];
    ids.extend(
        user.additional_gids()
            .iter()
            .flatten()
            .map(|gid| ("process.user.additionalGids", *gid)),
    );
    if let Some((field, id)) = ids.into_iter().find(|(_, id)| *id > MAX_ID) {
        return Err(BundleError::Invalid {
            field,
            value: id.to_string(),
            reason: "not a valid id",
        });
    }
    if !process.cwd().is_absolute() {
        return Err(BundleError::Invalid {
            field: "process.cwd",
            value: process.cwd().display().to_string(),
            reason: "not an absolute path",
        });
    }
    for variable in process.env().iter().flatten() {
        if variable.starts_with('=') || !variable.contains('=') {
            let reason = "not of the form NAME=value";
            return Err(BundleError::Invalid {
                field: "process.env",
                value: name_only(variable),
                reason,
            });
        }
    }
    Ok(())
}

/// The name of a variable: its value may be a secret.
fn name_only(variable: &str) -> String {
    variable
        .split('=')
        .next()
        .unwrap_or_default()
        .chars()
        .take(64)
        .collect()
}

fn sysctl_namespace(path: &str) -> Option<LinuxNamespaceType> {
    const IPC: [&str; 8] = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
    ];
    if IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        Some(LinuxNamespaceType::Ipc)
    } else if path.starts_with("net/") {
        Some(LinuxNamespaceType::Network)
    } else if path == "kernel/domainname" {
        Some(LinuxNamespaceType::Uts)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
