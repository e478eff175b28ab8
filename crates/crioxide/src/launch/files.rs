//! Reading the configuration file and the drop-in directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crioxide_config::ConfigFile;
use crioxide_files::{ReadLimitedError, read_to_string_limited};

/// More than any configuration needs; a device or a runaway file is not read to its end.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Bounds the walk, should the drop-in directory be `/` by mistake.
const MAX_FILES: usize = 4096;

/// Where the configuration is read from, also when it is read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigSources {
    /// `None` when the user wants no file.
    pub(crate) file: Option<PathBuf>,
    /// Whether the user named the file, so that it must exist.
    pub(crate) file_named: bool,
    /// `None` when the user wants no drop-ins.
    pub(crate) directory: Option<PathBuf>,
}

/// Why the configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadConfigError {
    #[error("unable to read configuration file `{}`", path.display())]
    File {
        path: PathBuf,
        source: ReadLimitedError,
    },
    #[error("configuration file `{}` does not exist", path.display())]
    Missing { path: PathBuf },
    #[error("unable to walk drop-in directory `{}`", path.display())]
    Walk { path: PathBuf, source: io::Error },
    #[error("more than {MAX_FILES} files below drop-in directory `{}`", path.display())]
    TooMany { path: PathBuf },
}

impl ConfigSources {
    /// The files in the order in which they apply.
    pub(crate) fn read(&self) -> Result<Vec<ConfigFile>, ReadConfigError> {
        let mut files = Vec::new();
        if let Some(path) = &self.file {
            if path.exists() {
                files.push(read(path)?);
            } else if self.file_named {
                return Err(ReadConfigError::Missing { path: path.clone() });
            }
        }
        if let Some(directory) = &self.directory {
            for path in drop_ins(directory)? {
                files.push(read(&path)?);
            }
        }
        Ok(files)
    }

    /// Logs where `files` were found, in CRI-O's words. Reading comes before there is a log.
    pub(crate) fn announce(&self, files: &[PathBuf]) {
        if let Some(path) = &self.file {
            if files.contains(path) {
                tracing::info!("Updating config from single file: {}", path.display());
            } else {
                tracing::info!(
                    "Skipping not-existing config file {:?}",
                    path.display().to_string()
                );
            }
        }
        if let Some(directory) = &self.directory {
            tracing::info!("Updating config from path: {}", directory.display());
            for path in files.iter().filter(|path| path.starts_with(directory)) {
                tracing::info!("Updating config from drop-in file: {}", path.display());
            }
        }
    }
}

fn read(path: &Path) -> Result<ConfigFile, ReadConfigError> {
    let text =
        read_to_string_limited(path, MAX_FILE_BYTES).map_err(|source| ReadConfigError::File {
            path: path.to_owned(),
            source,
        })?;
    Ok(ConfigFile::new(path, text))
}

/// Every regular file below `directory`, whatever its name, in lexical order within each directory.
/// A directory that does not exist holds none.
fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>, ReadConfigError> {
    let mut found = Vec::new();
    if directory.exists() {
        walk(directory, directory, &mut found)?;
    }
    Ok(found)
}

fn walk(root: &Path, directory: &Path, found: &mut Vec<PathBuf>) -> Result<(), ReadConfigError> {
    let failed = |source| ReadConfigError::Walk {
        path: directory.to_owned(),
        source,
    };
    let mut entries: Vec<_> = fs::read_dir(directory)
        .and_then(Iterator::collect::<Result<_, _>>)
        .map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(failed)?;
        let path = entry.path();
        // Links to files are followed, links to directories are not: they could lead in circles.
        if kind.is_dir() {
            walk(root, &path, found)?;
        } else if fs::metadata(&path).map_err(failed)?.is_file() {
            found.push(path);
        }
        if found.len() > MAX_FILES {
            return Err(ReadConfigError::TooMany {
                path: root.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drop_ins_are_walked_in_lexical_order_whatever_their_suffix() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("05-sub/deep")).unwrap();
        for name in ["10-b.conf", "00-default", "05-sub/z.conf~", "05-sub/deep/a"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        std::os::unix::fs::symlink(root.path(), root.path().join("99-loop")).unwrap();
        let found = drop_ins(root.path()).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(root.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            ["00-default", "05-sub/deep/a", "05-sub/z.conf~", "10-b.conf"]
        );
    }

    #[test]
    fn only_a_named_file_must_exist() {
        let mut sources = ConfigSources {
            file: Some("/nonexistent/x".into()),
            file_named: false,
            directory: None,
        };
        assert!(sources.read().unwrap().is_empty());
        sources.file_named = true;
        let error = sources.read().unwrap_err();
        assert_eq!(
            error.to_string(),
            "configuration file `/nonexistent/x` does not exist"
        );
    }
}
