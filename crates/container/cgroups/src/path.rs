//! Names of cgroups: the `cgroupsPath` of an OCI configuration in its two forms.

use std::fmt;
use std::path::{Component, Path};

/// Who makes cgroups on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Driver {
    /// We do, as directories.
    Cgroupfs,
    /// systemd does, as slices and scopes.
    Systemd,
}

/// A cgroup's place, independent of where the hierarchies are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupPath {
    /// A directory below the hierarchy root, without leading slash.
    Directory(String),
    /// A systemd scope `<prefix>-<name>.scope` in a slice.
    Scope {
        /// The slice, for example `kubepods-burstable.slice`.
        slice: String,
        /// The unit's full name.
        unit: String,
    },
    /// A systemd slice.
    Slice(String),
}

/// A text that names no cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid cgroup path `{text}` for the {driver} driver: {reason}")]
pub struct ParseCgroupPathError {
    text: String,
    driver: Driver,
    reason: &'static str,
}

impl CgroupPath {
    /// Reads a `cgroupsPath`: `/a/b/name` for cgroupfs, `slice:prefix:name` for systemd; a bare `x.slice` is a slice.
    ///
    /// # Errors
    /// Anything that would leave the hierarchy (`..`), the root itself, or is not of the driver's form.
    pub fn parse(text: &str, driver: Driver) -> Result<Self, ParseCgroupPathError> {
        let fail = |reason| ParseCgroupPathError {
            text: text.into(),
            driver,
            reason,
        };
        if text.contains(['\0', '\n']) {
            return Err(fail("it has a forbidden character"));
        }
        match driver {
            Driver::Cgroupfs => Ok(Self::Directory(plain_directory(text).map_err(fail)?)),
            Driver::Systemd => parse_systemd(text).map_err(fail),
        }
    }

    /// The directory below the root of every hierarchy, without leading slash.
    pub fn directory(&self) -> String {
        match self {
            Self::Directory(directory) => directory.clone(),
            Self::Slice(slice) => slice_directory(slice),
            Self::Scope { slice, unit } => match slice_directory(slice) {
                parent if parent.is_empty() => unit.clone(),
                parent => format!("{parent}/{unit}"),
            },
        }
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.directory())
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        })
    }
}

/// Directory of a slice: `a-b.slice` lives in `a.slice/a-b.slice`; `-.slice` is the root and gives an empty string.
pub fn slice_directory(slice: &str) -> String {
    let Some(stem) = slice.strip_suffix(".slice") else {
        return slice.to_owned();
    };
    if stem == "-" {
        return String::new();
    }
    let mut directory = String::new();
    let dashes = stem
        .match_indices('-')
        .map(|(at, _)| at)
        .chain([stem.len()]);
    for end in dashes {
        if !directory.is_empty() {
            directory.push('/');
        }
        directory.push_str(&stem[..end]);
        directory.push_str(".slice");
    }
    directory
}

fn plain_directory(text: &str) -> Result<String, &'static str> {
    let mut directory = String::new();
    for component in Path::new(text).components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                if !directory.is_empty() {
                    directory.push('/');
                }
                directory.push_str(name.to_str().ok_or("it is not UTF-8")?);
            }
            Component::ParentDir | Component::Prefix(_) => return Err("`..` is not allowed"),
        }
    }
    if directory.is_empty() {
        Err("it names the root")
    } else {
        Ok(directory)
    }
}

fn parse_systemd(text: &str) -> Result<CgroupPath, &'static str> {
    if text.contains('/') {
        return Err("a unit name has no slash");
    }
    let mut parts = text.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(slice), None, ..) if is_slice(slice) => Ok(CgroupPath::Slice(slice.into())),
        (Some(slice), Some(prefix), Some(name), None) => {
            // As runc: no slice given means the system slice.
            let slice = if slice.is_empty() {
                "system.slice"
            } else {
                slice
            };
            if !is_slice(slice) {
                return Err("the slice is malformed");
            }
            if name.is_empty() {
                return Err("the name is empty");
            }
            if name.ends_with(".slice") {
                return Ok(CgroupPath::Slice(name.into()));
            }
            let unit = if prefix.is_empty() {
                format!("{name}.scope")
            } else {
                format!("{prefix}-{name}.scope")
            };
            Ok(CgroupPath::Scope {
                slice: slice.into(),
                unit,
            })
        }
        _ => Err("it is not `slice:prefix:name`"),
    }
}

fn is_slice(text: &str) -> bool {
    text.strip_suffix(".slice").is_some_and(|stem| {
        stem == "-"
            || (!stem.is_empty()
                && !stem.starts_with('-')
                && !stem.ends_with('-')
                && !stem.contains("--"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroupfs_paths() {
        let parsed = CgroupPath::parse("/kubepods//pod1/./crio-abc", Driver::Cgroupfs).unwrap();
        assert_eq!(parsed.directory(), "kubepods/pod1/crio-abc");
        for bad in ["", "/", "/a/../b", "a\nb"] {
            assert!(CgroupPath::parse(bad, Driver::Cgroupfs).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn systemd_paths() {
        let directory =
            |text| CgroupPath::parse(text, Driver::Systemd).map(|path| path.directory());
        assert_eq!(
            directory("kubepods-burstable-pod1.slice:crio:abc").unwrap(),
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/crio-abc.scope"
        );
        assert_eq!(
            directory(":crio:abc").unwrap(),
            "system.slice/crio-abc.scope"
        );
        assert_eq!(directory("-.slice:crio:abc").unwrap(), "crio-abc.scope");
        assert_eq!(directory("a-b.slice").unwrap(), "a.slice/a-b.slice");
        for bad in [
            "",
            "/a/b",
            "a:b",
            "a.slice:b",
            "a.slice:b:",
            "a--b.slice:c:d",
            "a.slice:b:c:d",
            "x:y:z",
        ] {
            assert!(directory(bad).is_err(), "{bad:?}");
        }
    }
}
