//! Where in the cgroup tree a container goes.

use thiserror::Error;

/// Who creates cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupManager {
    /// systemd, as scopes in slices.
    Systemd,
    /// Directories made directly.
    Cgroupfs,
}

/// A parent cgroup that does not fit.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CgroupParentError {
    /// `..` or control characters.
    #[error("cgroup parent {parent:?} is not a plain path")]
    NotPlain {
        /// The parent.
        parent: String,
    },
    /// A path where systemd wants a slice.
    #[error(
        "cri-o configured with systemd cgroup manager, but did not receive slice as parent: {parent}"
    )]
    NotSlice {
        /// The parent.
        parent: String,
    },
    /// A slice where a path is wanted.
    #[error(
        "cri-o configured with cgroupfs cgroup manager, but received systemd slice as parent: {parent}"
    )]
    Slice {
        /// The parent.
        parent: String,
    },
}

/// The spec's `cgroupsPath` for the container `id` below the pod's `parent`; an empty parent is the manager's root.
///
/// # Errors
/// Fails if the parent is of the other manager's kind or leads elsewhere.
pub fn cgroups_path(
    manager: CgroupManager,
    parent: &str,
    id: &str,
) -> Result<String, CgroupParentError> {
    if parent.split('/').any(|part| part == "..")
        || parent.contains(|character: char| character.is_control() || character == ':')
    {
        return Err(CgroupParentError::NotPlain {
            parent: parent.to_owned(),
        });
    }
    let last = parent
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    match manager {
        CgroupManager::Systemd if parent.is_empty() => Ok(format!("system.slice:crio:{id}")),
        CgroupManager::Systemd if last.ends_with(".slice") => Ok(format!("{last}:crio:{id}")),
        CgroupManager::Systemd => Err(CgroupParentError::NotSlice {
            parent: parent.to_owned(),
        }),
        CgroupManager::Cgroupfs if last.ends_with(".slice") => Err(CgroupParentError::Slice {
            parent: parent.to_owned(),
        }),
        CgroupManager::Cgroupfs => Ok(format!("{}/crio-{id}", parent.trim_end_matches('/'))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_managers() {
        assert_eq!(
            cgroups_path(CgroupManager::Cgroupfs, "/kubepods/pod1", "id").unwrap(),
            "/kubepods/pod1/crio-id"
        );
        assert_eq!(
            cgroups_path(CgroupManager::Cgroupfs, "", "id").unwrap(),
            "/crio-id"
        );
        assert_eq!(
            cgroups_path(
                CgroupManager::Systemd,
                "/kubepods.slice/kubepods-pod1.slice",
                "id"
            )
            .unwrap(),
            "kubepods-pod1.slice:crio:id"
        );
    }

    #[test]
    fn wrong_parents() {
        assert!(matches!(
            cgroups_path(CgroupManager::Systemd, "/kubepods", "id"),
            Err(CgroupParentError::NotSlice { .. })
        ));
        assert!(matches!(
            cgroups_path(CgroupManager::Cgroupfs, "/a.slice", "id"),
            Err(CgroupParentError::Slice { .. })
        ));
        for parent in ["/a/../../b", "a:b.slice", "/a\n"] {
            assert!(
                matches!(
                    cgroups_path(CgroupManager::Systemd, parent, "id"),
                    Err(CgroupParentError::NotPlain { .. })
                ),
                "{parent:?}"
            );
        }
    }
}
