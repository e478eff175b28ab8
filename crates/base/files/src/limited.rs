//! Reading whole files whose size somebody else decides.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Room for most files of procfs, bytes: without it they would be read in many small pieces.
const PROCFS: u64 = 1024;

/// Why a file could not be read whole.
#[derive(Debug, thiserror::Error)]
pub enum ReadLimitedError {
    /// Opening or reading failed.
    #[error("read {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is more than the caller accepts.
    #[error("read {path}: larger than the limit of {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that was acceptable, in bytes.
        limit: u64,
    },
    /// Text was asked for.
    #[error("read {path}: not UTF-8")]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Where the text breaks off.
        source: std::string::FromUtf8Error,
    },
}

impl ReadLimitedError {
    /// Whether the file is simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads the file at `path`, which may hold `limit` bytes at most.
pub fn read_limited(path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, ReadLimitedError> {
    let path = path.as_ref();
    let fail = |source| ReadLimitedError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(fail)?;
    let expected = file.metadata().map_err(fail)?.len();
    // The size is a hint only: procfs reports 0 and the file may grow while it is read.
    let hint = match expected {
        0 => PROCFS,
        _ => expected.saturating_add(1),
    };
    let hint = hint.min(limit.saturating_add(1));
    let mut bytes = Vec::with_capacity(usize::try_from(hint).unwrap_or(0));
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if bytes.len() as u64 > limit {
        return Err(ReadLimitedError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// Reads the text file at `path`, which may hold `limit` bytes at most.
pub fn read_to_string_limited(
    path: impl AsRef<Path>,
    limit: u64,
) -> Result<String, ReadLimitedError> {
    let path = path.as_ref();
    String::from_utf8(read_limited(path, limit)?).map_err(|source| ReadLimitedError::NotUtf8 {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_inclusive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read_limited(&path, 5).unwrap(), b"12345");
        assert!(matches!(
            read_limited(&path, 4),
            Err(ReadLimitedError::TooLarge { limit: 4, .. })
        ));
    }

    #[test]
    fn files_without_a_size_are_read_whole() {
        assert!(
            read_to_string_limited("/proc/self/status", 1 << 20)
                .unwrap()
                .contains("Name:")
        );
        assert!(read_limited("/dev/zero", 1000).is_err());
    }

    #[test]
    fn errors_tell_missing_from_unreadable_text() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            read_limited(dir.path().join("none"), 1)
                .unwrap_err()
                .is_not_found()
        );
        let path = dir.path().join("bytes");
        std::fs::write(&path, [0xff]).unwrap();
        assert!(matches!(
            read_to_string_limited(&path, 9),
            Err(ReadLimitedError::NotUtf8 { .. })
        ));
    }
}
