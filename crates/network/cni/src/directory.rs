//! The directory of network configurations, read again whenever it changed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crioxide_files::read_limited;

use crate::error::chain;
use crate::{NetworkList, NotReady, ParseConfigError};

/// Configurations are a few kilobytes.
const FILE_LIMIT: u64 = 1024 * 1024;
/// Endings of plugin files in the folder of a list.
const FOLDER_ENDINGS: &[&str] = &["conf"];

/// A directory of `.conflist`, `.conf` and `.json` files.
#[derive(Debug)]
pub(crate) struct ConfDir {
    path: PathBuf,
    loaded: Mutex<Option<(Stamp, Arc<Loaded>)>>,
}

/// What the directory holds.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Usable networks in lexical order of their files.
    pub(crate) lists: Vec<Arc<NetworkList>>,
    /// Why other files are not used.
    pub(crate) failures: Vec<String>,
}

/// Name, inode, size, change time of each file: equal as long as nothing was touched.
type Stamp = Vec<(PathBuf, u64, u64, i64, i64)>;

impl ConfDir {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            loaded: Mutex::new(None),
        }
    }

    /// The directory's networks as of now.
    pub(crate) fn load(&self) -> Result<Arc<Loaded>, NotReady> {
        let stamp = self.stamp().map_err(|error| NotReady {
            reason: format!(
                "read CNI configuration directory `{}`: {error}",
                self.path.display()
            ),
        })?;
        let mut guard = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, loaded)) = guard.as_ref().filter(|(seen, _)| *seen == stamp) {
            return Ok(Arc::clone(loaded));
        }
        let loaded = Arc::new(read_all(
            &self.path,
            stamp.iter().map(|(path, ..)| path.as_path()),
        ));
        for failure in &loaded.failures {
            tracing::warn!("{failure}");
        }
        let names: Vec<_> = loaded.lists.iter().map(|list| list.name.as_str()).collect();
        tracing::info!(directory = %self.path.display(), networks = ?names, "CNI configuration loaded");
        *guard = Some((stamp, Arc::clone(&loaded)));
        Ok(loaded)
    }

    /// The network pods are attached to: the one called `wanted`, or the first.
    pub(crate) fn default_network(
        &self,
        wanted: Option<&str>,
    ) -> Result<Arc<NetworkList>, NotReady> {
        let loaded = self.load()?;
        let found = match wanted {
            Some(name) => loaded.lists.iter().find(|list| list.name == name),
            None => loaded.lists.first(),
        };
        found.cloned().ok_or_else(|| {
            let directory = self.path.display();
            let mut reason = match wanted {
                Some(name) => format!("CNI network `{name}` is not configured in {directory}"),
                None => format!(
                    "no CNI configuration file in {directory}. Has your network provider started?"
                ),
            };
            for failure in &loaded.failures {
                reason.push_str("; ");
                reason.push_str(failure);
            }
            NotReady { reason }
        })
    }

    /// Whether the directory holds no configuration at all, good or bad.
    pub(crate) fn is_empty(&self) -> Result<bool, NotReady> {
        let loaded = self.load()?;
        Ok(loaded.lists.is_empty() && loaded.failures.is_empty())
    }

    fn stamp(&self) -> io::Result<Stamp> {
        let mut stamp = Vec::new();
        let folders = stamp_of(&self.path, &["conflist", "conf", "json"], &mut stamp)?;
        for folder in folders {
            // Folders hold the plugins of the list that has their name. One that cannot be read
            // shows as a failure of its list.
            let _ = stamp_of(&folder, FOLDER_ENDINGS, &mut stamp);
        }
        stamp.sort_unstable();
        Ok(stamp)
    }
}

/// Adds the files of `directory` that have one of the endings; returns its subdirectories.
fn stamp_of(directory: &Path, endings: &[&str], stamp: &mut Stamp) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut directories = Vec::new();
    for entry in entries {
        let path = entry?.path();
        // A file that vanished meanwhile, or a dangling link, counts as not there.
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            directories.push(path);
        } else if metadata.is_file() && has_ending(&path, endings) {
            stamp.push((
                path,
                metadata.ino(),
                metadata.size(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            ));
        }
    }
    Ok(directories)
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension()
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| endings.contains(&ending))
}

fn read_all<'a>(directory: &Path, paths: impl Iterator<Item = &'a Path>) -> Loaded {
    let mut loaded = Loaded {
        lists: Vec::new(),
        failures: Vec::new(),
    };
    for path in paths.filter(|path| path.parent() == Some(directory)) {
        match read_file(path) {
            Ok(list) => match loaded.lists.iter().find(|other| other.name == list.name) {
                Some(_) => loaded.failures.push(format!(
                    "CNI configuration `{}`: network `{}` is defined by an earlier file",
                    path.display(),
                    list.name
                )),
                None => loaded.lists.push(Arc::new(list)),
            },
            Err(error) => loaded.failures.push(chain(&error)),
        }
    }
    loaded
}

fn read_file(path: &Path) -> Result<NetworkList, ParseConfigError> {
    let bytes = read_bytes(path)?;
    if path.extension().is_none_or(|ending| ending != "conflist") {
        return NetworkList::parse_single(path, &bytes);
    }
    let mut list = NetworkList::parse_inlined(path, &bytes)?;
    if list.takes_folder {
        let folder = path.with_file_name(&list.name);
        let mut files = Vec::new();
        let failed = |source| ParseConfigError::Read {
            path: folder.clone(),
            source,
        };
        stamp_of(&folder, FOLDER_ENDINGS, &mut files).map_err(failed)?;
        files.sort_unstable();
        for (file, ..) in &files {
            list.append_plugin(file, &read_bytes(file)?)?;
        }
    }
    if list.plugins.is_empty() {
        return Err(ParseConfigError::Invalid {
            path: path.to_owned(),
            reason: format!(
                "network `{}` has no plugin, neither in `plugins` nor in its folder",
                list.name
            ),
        });
    }
    Ok(list)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ParseConfigError> {
    read_limited(path, FILE_LIMIT).map_err(|error| ParseConfigError::Read {
        path: path.to_owned(),
        source: io::Error::other(chain(&error)),
    })
}

#[cfg(test)]
mod tests;
