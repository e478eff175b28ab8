//! Network settings below `/proc/sys/net`, of the calling thread's network namespace.

use std::fs;
use std::io;
use std::path::PathBuf;

/// A setting could not be made.
#[derive(Debug, thiserror::Error)]
#[error("set `{}` to {value}", path.display())]
pub(crate) struct SysctlError {
    path: PathBuf,
    value: String,
    source: io::Error,
}

/// Sets `net/<key>` unless it has the value already.
pub(crate) fn set(key: &str, value: &str) -> Result<(), SysctlError> {
    let path = PathBuf::from("/proc/sys/net").join(key);
    let done = match fs::read_to_string(&path) {
        Ok(current) if current.trim() == value => Ok(()),
        Ok(_) => fs::write(&path, value),
        Err(error) => Err(error),
    };
    done.map_err(|source| SysctlError {
        path,
        value: value.to_owned(),
        source,
    })
}

/// As [`set`], on kernels and namespaces that may not have the setting at all (IPv6 turned off).
pub(crate) fn set_if_present(key: &str, value: &str) -> Result<(), SysctlError> {
    match set(key, value) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The value of `net/<key>`, with its parts separated by single spaces.
pub(crate) fn read(key: &str) -> Option<String> {
    let text = fs::read_to_string(PathBuf::from("/proc/sys/net").join(key)).ok()?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}
