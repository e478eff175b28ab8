//! Files that tell a start what came before: the version markers and the clean-shutdown marker (config.md §7).

use std::path::{Path, PathBuf};

use crioxide_engine::ports::PortError;
use crioxide_files::{
    AtomicOptions, Sync, atomic_write, read_to_string_limited, remove_temporaries,
};
use crioxide_node_records::version_file;

/// Whether the marker says that the machine was rebooted or the daemon upgraded to another minor version.
pub(crate) fn is_outdated(path: Option<&Path>, version: &str) -> bool {
    let Some(path) = path else { return false };
    let Ok(content) = read_to_string_limited(path, 4096) else {
        return true;
    };
    match (
        version_file::parse(&content),
        version_file::parse(&version_file::content(version, None)),
    ) {
        (Ok(recorded), Ok(ours)) => (recorded.major, recorded.minor) != (ours.major, ours.minor),
        _ => true,
    }
}

/// Writes a version marker.
pub(crate) fn record_version(path: Option<&Path>, version: &str) -> Result<(), PortError> {
    let Some(path) = path else { return Ok(()) };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|error| format!("make {}: {error}", parent.display()))?;
        // A daemon that was killed here leaves its half-written marker.
        remove_temporaries(parent, path.file_name())
            .map_err(|error| format!("clean up {}: {error}", parent.display()))?;
    }
    let options = AtomicOptions {
        mode: 0o644,
        sync: Sync::Data,
    };
    Ok(atomic_write(
        path,
        version_file::content(version, None).as_bytes(),
        options,
    )?)
}

/// The marker of a clean shutdown.
#[derive(Debug)]
pub(crate) struct CleanShutdown {
    path: PathBuf,
}

impl CleanShutdown {
    /// Takes the marker away for as long as the daemon runs, and says whether the last shutdown was clean.
    pub(crate) fn begin(path: Option<&Path>) -> Result<(Option<Self>, bool), PortError> {
        let Some(path) = path else {
            return Ok((None, true));
        };
        let supported = PathBuf::from(format!("{}.supported", path.display()));
        let clean = path.exists() || !supported.exists();
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|error| format!("make {}: {error}", parent.display()))?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("remove {}: {error}", path.display()).into());
            }
            _ => {}
        }
        atomic_write(
            &supported,
            b"",
            AtomicOptions {
                mode: 0o644,
                sync: Sync::Data,
            },
        )?;
        Ok((
            Some(Self {
                path: path.to_owned(),
            }),
            clean,
        ))
    }

    /// Sets the marker.
    pub(crate) fn finish(&self) -> Result<(), PortError> {
        Ok(atomic_write(
            &self.path,
            b"",
            AtomicOptions {
                mode: 0o644,
                sync: Sync::Data,
            },
        )?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/version");
        assert!(is_outdated(Some(&path), "1.37.0"));
        record_version(Some(&path), "1.37.0").unwrap();
        assert!(!is_outdated(Some(&path), "1.37.4"));
        assert!(is_outdated(Some(&path), "1.38.0"));
        assert!(!is_outdated(None, "1.37.0"));
    }

    #[test]
    fn clean_and_unclean() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clean");
        let (marker, clean) = CleanShutdown::begin(Some(&path)).unwrap();
        assert!(clean);
        let (_, clean) = CleanShutdown::begin(Some(&path)).unwrap();
        assert!(!clean);
        marker.unwrap().finish().unwrap();
        assert!(CleanShutdown::begin(Some(&path)).unwrap().1);
    }
}
