//! Which cgroup hierarchies the host has and where they are mounted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where the host keeps cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupLayout {
    /// Version 2 for everything, mounted here.
    Unified(PathBuf),
    /// Version 1. A host with both, whose controllers sit in version 1 hierarchies, counts as this one too.
    Legacy {
        /// Its hierarchies.
        hierarchies: Vec<Hierarchy>,
        /// The version 2 tree beside them, without controllers. We put nobody there, but others do.
        beside: Option<PathBuf>,
    },
}

/// One mounted version 1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Kernel controllers in it, and `name=x` for a named one.
    pub controllers: Vec<String>,
    /// Mount point.
    pub mount_point: PathBuf,
}

/// Why the layout could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum DetectLayoutError {
    /// The mount table is unreadable.
    #[error("cannot read `/proc/self/mountinfo` to find the cgroup mounts")]
    Mounts {
        /// Why.
        source: io::Error,
    },
    /// There is no cgroup mount.
    #[error("no cgroup file system is mounted")]
    NotMounted,
}

impl CgroupLayout {
    /// The layout of this host, found out once per process.
    ///
    /// # Errors
    /// Never cached: a failure is found out again by the next call.
    pub fn host() -> Result<&'static Self, DetectLayoutError> {
        static LAYOUT: OnceLock<CgroupLayout> = OnceLock::new();
        if let Some(layout) = LAYOUT.get() {
            return Ok(layout);
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")
            .map_err(|source| DetectLayoutError::Mounts { source })?;
        let found = Self::from_mounts(&mounts).ok_or(DetectLayoutError::NotMounted)?;
        Ok(LAYOUT.get_or_init(|| found))
    }

    /// Reads a `mountinfo` text; `None` without a cgroup mount.
    pub fn from_mounts(mountinfo: &str) -> Option<Self> {
        let mut legacy: Vec<Hierarchy> = Vec::new();
        let mut unified = None;
        for line in mountinfo.lines() {
            let Some((place, kind)) = line.split_once(" - ") else {
                continue;
            };
            let Some(mount_point) = place.split(' ').nth(4).map(unescape) else {
                continue;
            };
            let mut kind = kind.split(' ');
            let (fs_type, options) = (
                kind.next().unwrap_or_default(),
                kind.nth(1).unwrap_or_default(),
            );
            match fs_type {
                "cgroup2" => {
                    unified.get_or_insert(mount_point);
                }
                "cgroup" => {
                    let controllers = controllers_of(options);
                    // The same hierarchy may be mounted again elsewhere; the first mount is the usual place.
                    if !controllers.is_empty()
                        && !legacy.iter().any(|known| known.controllers == controllers)
                    {
                        legacy.push(Hierarchy {
                            controllers,
                            mount_point,
                        });
                    }
                }
                _ => {}
            }
        }
        let legacy_has_controllers = legacy
            .iter()
            .flat_map(|hierarchy| &hierarchy.controllers)
            .any(|name| !name.starts_with("name="));
        if legacy_has_controllers {
            Some(Self::Legacy {
                hierarchies: legacy,
                beside: unified,
            })
        } else {
            unified.map(Self::Unified)
        }
    }

    /// Whether the host uses version 2.
    pub fn is_unified(&self) -> bool {
        matches!(self, Self::Unified(_))
    }

    /// Whether the host has the controller at all.
    pub fn has_controller(&self, controller: &str) -> bool {
        match self {
            Self::Unified(root) => std::fs::read_to_string(root.join("cgroup.controllers"))
                .is_ok_and(|names| names.split_whitespace().any(|name| name == controller)),
            Self::Legacy { .. } => self.hierarchy(controller).is_some(),
        }
    }

    /// The version 1 mount point of a controller; on version 2 the one mount point.
    pub(crate) fn root_for(&self, controller: &str) -> Option<&Path> {
        match self {
            Self::Unified(root) => Some(root),
            Self::Legacy { .. } => self
                .hierarchy(controller)
                .map(|hierarchy| hierarchy.mount_point.as_path()),
        }
    }

    /// Where groups may be that nothing is asked of, and that still have to go with their namesakes.
    pub(crate) fn beside(&self) -> Option<&Path> {
        match self {
            Self::Unified(_) => None,
            Self::Legacy { beside, .. } => beside.as_deref(),
        }
    }

    /// All mount points.
    pub(crate) fn roots(&self) -> Vec<&Path> {
        match self {
            Self::Unified(root) => vec![root],
            Self::Legacy { hierarchies, .. } => hierarchies
                .iter()
                .map(|hierarchy| hierarchy.mount_point.as_path())
                .collect(),
        }
    }

    fn hierarchy(&self, controller: &str) -> Option<&Hierarchy> {
        let Self::Legacy { hierarchies, .. } = self else {
            return None;
        };
        hierarchies
            .iter()
            .find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }
}

/// Every controller of version 1 has an option of its name; the other super block options are known.
fn controllers_of(options: &str) -> Vec<String> {
    const OTHER: [&str; 9] = [
        "rw",
        "ro",
        "xattr",
        "clone_children",
        "noprefix",
        "all",
        "none",
        "cpuset_v2_mode",
        "seclabel",
    ];
    options
        .split(',')
        .filter(|option| !OTHER.contains(option) && !option.starts_with("release_agent="))
        .map(str::to_owned)
        .collect()
}

/// `mountinfo` writes blanks and backslashes as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut text = field.to_owned();
    for (escape, plain) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        text = text.replace(escape, plain);
    }
    PathBuf::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_without_v2_controllers_is_legacy() {
        let layout = CgroupLayout::from_mounts(
            "1 0 0:1 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
             2 0 0:2 / /sys/fs/cgroup/systemd rw shared:1 - cgroup systemd rw,xattr,name=systemd\n\
             3 0 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n",
        )
        .unwrap();
        assert_eq!(
            layout.root_for("cpuacct"),
            Some(Path::new("/sys/fs/cgroup/cpu,cpuacct"))
        );
        assert!(!layout.has_controller("memory"));
        assert_eq!(layout.roots().len(), 2);
        assert_eq!(layout.beside(), Some(Path::new("/sys/fs/cgroup/unified")));
    }

    #[test]
    fn v2_alone_or_with_only_a_named_hierarchy_is_unified() {
        let v2 = "3 0 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let named = "2 0 0:2 / /cg\\040named rw - cgroup x rw,name=systemd\n";
        for text in [v2.to_owned(), format!("{named}{v2}")] {
            assert_eq!(
                CgroupLayout::from_mounts(&text),
                Some(CgroupLayout::Unified("/sys/fs/cgroup".into()))
            );
        }
        assert_eq!(
            CgroupLayout::from_mounts("1 0 0:1 / / rw - ext4 /dev/vda rw\n"),
            None
        );
    }
}
