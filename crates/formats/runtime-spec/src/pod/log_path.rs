//! Where a container's log is written.

use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// A log location that would lead elsewhere.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LogPathError {
    /// `..`, an absolute path or a NUL in the container's log path.
    #[error("container log path {path:?} does not stay inside the pod's log directory")]
    Escapes {
        /// The path of the request.
        path: String,
    },
    /// A log directory that is relative or contains `..`.
    #[error("pod log directory {directory:?} is not an absolute path without `..`")]
    Directory {
        /// The directory of the request.
        directory: String,
    },
}

/// Joins the pod's log directory with the container's log path; without one the log is named after `id`.
///
/// # Errors
/// Fails if the result could lie outside the log directory: the daemon creates this file as root.
pub fn log_path(log_directory: &str, log_path: &str, id: &str) -> Result<PathBuf, LogPathError> {
    let directory = Path::new(log_directory);
    let plain = |component: Component<'_>| {
        matches!(
            component,
            Component::RootDir | Component::Normal(_) | Component::CurDir
        )
    };
    if !directory.is_absolute()
        || log_directory.contains('\0')
        || !directory.components().all(plain)
    {
        return Err(LogPathError::Directory {
            directory: log_directory.to_owned(),
        });
    }
    if log_path.is_empty() {
        return Ok(directory.join(format!("{id}.log")));
    }
    let relative = Path::new(log_path);
    let names_file = matches!(
        relative.components().next_back(),
        Some(Component::Normal(_))
    ) && !log_path.ends_with('/');
    let inside = relative
        .components()
        .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
    if !inside || !names_file || log_path.contains('\0') {
        return Err(LogPathError::Escapes {
            path: log_path.to_owned(),
        });
    }
    Ok(directory.join(relative))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn joins_as_the_kubelet_expects() {
        assert_eq!(
            log_path("/var/log/pods/p", "running/0.log", "id").unwrap(),
            Path::new("/var/log/pods/p/running/0.log")
        );
        assert_eq!(
            log_path("/var/log/pods/p", "", "id").unwrap(),
            Path::new("/var/log/pods/p/id.log")
        );
    }

    #[test]
    fn traversal_is_refused() {
        for path in ["../x", "a/../../x", "/etc/passwd", "a\0b", "..", ".", "a/"] {
            assert!(log_path("/var/log/pods/p", path, "id").is_err(), "{path:?}");
        }
        for directory in ["", "relative", "/var/log/../..", "/a\0b"] {
            assert!(
                matches!(
                    log_path(directory, "0.log", "id"),
                    Err(LogPathError::Directory { .. })
                ),
                "{directory:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn result_stays_inside(path in "[a./\u{0}]{0,12}") {
            if let Ok(joined) = log_path("/logs", &path, "id") {
                prop_assert!(joined.starts_with("/logs") && joined != Path::new("/logs"));
                prop_assert!(joined.components().all(|component| component != Component::ParentDir));
            }
        }
    }
}
