//! Finding the program to run, by the container's own `PATH` and inside its root.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;

/// Why a process cannot be run. Texts are those the reference runtimes give, which users search for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommandError {
    /// No argument at all.
    #[error("process args are empty")]
    Empty,
    /// A bare name that no directory of `PATH` has.
    #[error("exec: \"{name}\": executable file not found in $PATH")]
    NotFound {
        /// The name.
        name: String,
    },
    /// A path with nothing there.
    #[error("exec: \"{path}\": stat {path}: no such file or directory")]
    NoSuchFile {
        /// The path.
        path: String,
    },
    /// A file without permission to execute it.
    #[error("exec: \"{path}\": permission denied")]
    PermissionDenied {
        /// The path.
        path: String,
    },
    /// A directory.
    #[error("exec: \"{path}\": is a directory")]
    IsDirectory {
        /// The path.
        path: String,
    },
    /// A NUL byte in an argument or in the environment.
    #[error("process argument or environment has a NUL byte")]
    NulByte,
}

/// A program with all that execve wants.
#[derive(Debug)]
pub(crate) struct ExecutableCommand {
    pub(crate) path: CString,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
}

/// Finds the program as execvp would, with `PATH` of the given environment and the rights of the calling process.
/// To be called inside the container's root, as the container's user and in its working directory.
pub(crate) fn find(
    arguments: &[String],
    environment: &[String],
) -> Result<ExecutableCommand, CommandError> {
    let name = arguments
        .first()
        .filter(|name| !name.is_empty())
        .ok_or(CommandError::Empty)?;
    let path = if name.contains('/') {
        check(Path::new(name), true)?;
        PathBuf::from(name)
    } else {
        search(name, environment)?
    };
    let strings = |list: &[String]| -> Result<Vec<CString>, CommandError> {
        list.iter()
            .map(|text| CString::new(text.as_str()).map_err(|_| CommandError::NulByte))
            .collect()
    };
    Ok(ExecutableCommand {
        path: CString::new(path.as_os_str().as_bytes()).map_err(|_| CommandError::NulByte)?,
        arguments: strings(arguments)?,
        environment: strings(environment)?,
    })
}

fn search(name: &str, environment: &[String]) -> Result<PathBuf, CommandError> {
    // Of several values the last one counts, as in the environment the program sees.
    let path = environment
        .iter()
        .rev()
        .find_map(|pair| pair.strip_prefix("PATH="))
        .unwrap_or_default();
    let mut denied = None;
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = Path::new(directory).join(OsStr::new(name));
        match check(&candidate, false) {
            Ok(()) => return Ok(candidate),
            Err(error @ CommandError::PermissionDenied { .. }) => denied = denied.or(Some(error)),
            Err(_) => {}
        }
    }
    Err(denied.unwrap_or_else(|| CommandError::NotFound {
        name: name.to_owned(),
    }))
}

fn check(path: &Path, directory_is_error: bool) -> Result<(), CommandError> {
    let text = || path.display().to_string();
    let missing = |error: Errno| match error {
        Errno::ACCESS | Errno::PERM => CommandError::PermissionDenied { path: text() },
        _ => CommandError::NoSuchFile { path: text() },
    };
    let status = stat(path).map_err(missing)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        return Err(if directory_is_error {
            CommandError::IsDirectory { path: text() }
        } else {
            CommandError::NoSuchFile { path: text() }
        });
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        // Judged by the mode bits where the check itself is not to be had.
        Err(Errno::NOSYS) if status.st_mode & 0o111 != 0 => Ok(()),
        Err(_) => Err(CommandError::PermissionDenied { path: text() }),
    }
}

/// The message of a failed execve, as a shell or runtime would print it.
pub(crate) fn execute_failure(path: &CString, error: &io::Error) -> String {
    let reason = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOEXEC) => "exec format error".to_owned(),
        Some(Errno::NOENT) => "no such file or directory".to_owned(),
        Some(Errno::ACCESS) => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    format!("exec {}: {reason}\n", path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(arguments: &[&str], path: &str) -> Result<String, CommandError> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        find(
            &arguments,
            &["PATH=/nowhere".to_owned(), format!("PATH={path}")],
        )
        .map(|command| command.path.to_string_lossy().into_owned())
    }

    #[test]
    fn programs_are_searched_in_the_last_path() {
        assert_eq!(found(&["sh"], "/nonexistent:/bin").unwrap(), "/bin/sh");
        assert_eq!(found(&["/bin/sh"], "").unwrap(), "/bin/sh");
    }

    #[test]
    fn failures_have_the_known_texts() {
        let text = |arguments: &[&str]| found(arguments, "/bin:/usr/bin").unwrap_err().to_string();
        assert_eq!(
            text(&["no-such-program"]),
            "exec: \"no-such-program\": executable file not found in $PATH"
        );
        assert_eq!(
            text(&["/no/such"]),
            "exec: \"/no/such\": stat /no/such: no such file or directory"
        );
        assert_eq!(
            text(&["/etc/passwd"]),
            "exec: \"/etc/passwd\": permission denied"
        );
        assert_eq!(text(&["/etc"]), "exec: \"/etc\": is a directory");
        assert_eq!(text(&[]), "process args are empty");
        assert_eq!(
            text(&["/bin/sh", "a\0b"]),
            "process argument or environment has a NUL byte"
        );
    }
}
