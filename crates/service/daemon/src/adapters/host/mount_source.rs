//! Sources of bind mounts.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crioxide_engine::ports::{MissingSource, PortError};
use crioxide_files::read_to_string_limited;
use crioxide_runtime_spec::mounts::volumes::{HostPropagation, VolumeSource};

/// Largest mount table that is read, bytes.
const MOUNT_TABLE_MAX: u64 = 64 << 20;

/// Resolves a source's links, makes it if allowed, and finds the mount it lies on.
pub(super) fn find(path: &Path, missing: MissingSource) -> Result<VolumeSource, PortError> {
    if !path.is_absolute() {
        return Err(format!("mount source {} is not an absolute path", path.display()).into());
    }
    let resolved = match std::fs::canonicalize(path) {
        Ok(resolved) => resolved,
        Err(error) if error.kind() == ErrorKind::NotFound && missing == MissingSource::Create => {
            let failed = |error| format!("cannot make mount source {}: {error}", path.display());
            std::fs::create_dir_all(path).map_err(failed)?;
            std::fs::canonicalize(path).map_err(failed)?
        }
        Err(error) => return Err(format!("cannot mount source {}: {error}", path.display()).into()),
    };
    let table = read_to_string_limited("/proc/self/mountinfo", MOUNT_TABLE_MAX)?;
    let (mount_point, propagation) = mount_of(&table, &resolved);
    Ok(VolumeSource {
        path: resolved,
        mount_point,
        propagation,
        ..VolumeSource::default()
    })
}

/// The mount that `path` lies on: the last one listed whose mount point is the longest prefix.
fn mount_of(table: &str, path: &Path) -> (PathBuf, HostPropagation) {
    let mut best = (PathBuf::from("/"), HostPropagation::Private);
    for line in table.lines() {
        let mut fields = line.split(' ');
        let Some(point) = fields.nth(4) else { continue };
        let point = PathBuf::from(unescape(point));
        if path.starts_with(&point) && point.as_os_str().len() >= best.0.as_os_str().len() {
            let tags: Vec<&str> = fields.skip(1).take_while(|tag| *tag != "-").collect();
            let propagation = if tags.iter().any(|tag| tag.starts_with("shared:")) {
                HostPropagation::Shared
            } else if tags.iter().any(|tag| tag.starts_with("master:")) {
                HostPropagation::Slave
            } else {
                HostPropagation::Private
            };
            best = (point, propagation);
        }
    }
    best
}

/// Undoes the octal escapes of blanks, tabs, newlines and backslashes (proc(5)).
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /srv rw master:3 - tmpfs none rw
31 30 0:41 / /srv/a\\040b rw - tmpfs none rw
";

    #[test]
    fn longest_prefix_wins() {
        let propagation = |path| mount_of(TABLE, Path::new(path));
        assert_eq!(propagation("/etc"), ("/".into(), HostPropagation::Shared));
        assert_eq!(
            propagation("/srv/x"),
            ("/srv".into(), HostPropagation::Slave)
        );
        assert_eq!(
            propagation("/srv/a b/c"),
            ("/srv/a b".into(), HostPropagation::Private)
        );
        assert_eq!(propagation("/srvx"), ("/".into(), HostPropagation::Shared));
    }

    #[test]
    fn missing_sources_are_made_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let error = find(&path, MissingSource::Reject).unwrap_err().to_string();
        assert!(
            error.contains("a/b") && error.contains("No such file"),
            "{error}"
        );
        assert!(!path.exists());
        find(&path, MissingSource::Create).unwrap();
        assert!(path.is_dir());
        assert!(find(Path::new("relative"), MissingSource::Create).is_err());
    }
}
