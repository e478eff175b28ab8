//! Directories for content that is not, or no longer, part of the store.
//!
//! They lie on the same mount as the layers, so that content is renamed in and out, never copied. Each process has one
//! `temp-dir-<x>` there, with a locked `lock-<x>` beside it, as containers/storage has for its deletions; one whose lock is
//! free was left by a crash and is removed by whoever opens the store next. (Its other directory of that kind, `staging`, is
//! emptied by old versions whenever they exit.)

pub(crate) mod reaper;
mod subvolume;

use crioxide_files::{LockFile, LockFileError, random_suffix};
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const DIRECTORY: &str = "temp-dir-";
const LOCK: &str = "lock-";

/// A staging directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// Its lock could not be taken.
    #[error(transparent)]
    Lock(#[from] LockFileError),
    /// A system call failed.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The process's place in one directory for staging, made when first needed.
#[derive(Debug)]
pub(crate) struct StagingArea {
    home: PathBuf,
    mine: Mutex<Option<Arc<Mine>>>,
}

#[derive(Debug)]
struct Mine {
    directory: PathBuf,
    next: AtomicU64,
    lock: LockFile,
}

/// A path in the staging area that is removed, with all below it, when dropped. Renaming it away first keeps it.
#[derive(Debug)]
pub(crate) struct Staged {
    path: PathBuf,
    _mine: Arc<Mine>,
}

impl StagingArea {
    pub(crate) fn new(home: PathBuf) -> Self {
        Self {
            home,
            mine: Mutex::new(None),
        }
    }

    /// A path that nothing exists at.
    pub(crate) fn reserve(&self) -> Result<Staged, StagingError> {
        let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        let current = match &*mine {
            Some(current) => Arc::clone(current),
            None => Arc::clone(mine.insert(Arc::new(Mine::make(&self.home)?))),
        };
        let number = current.next.fetch_add(1, Ordering::Relaxed);
        Ok(Staged {
            path: current.directory.join(number.to_string()),
            _mine: current,
        })
    }

    /// Whether the process of a [`Staged::owner`] still runs, as far as leftovers were removed since it ended.
    pub(crate) fn is_alive(&self, owner: &str) -> bool {
        let is_name = owner.starts_with(DIRECTORY) && !owner.contains('/');
        is_name && self.home.join(owner).is_dir()
    }

    /// Removes what crashed processes, of whatever program, left.
    pub(crate) fn remove_leftovers(&self) -> Result<(), StagingError> {
        for leftover in sub_directories(&self.home)? {
            let name = leftover.file_name().and_then(|name| name.to_str());
            let Some(suffix) = name.and_then(|name| name.strip_prefix(DIRECTORY)) else {
                continue;
            };
            let lock = LockFile::try_acquire(self.home.join(format!("{LOCK}{suffix}")))?;
            if let Some(lock) = lock {
                tracing::info!(path = %leftover.display(), "removing what an interrupted operation left");
                remove_tree(&leftover)?;
                remove_tree(lock.path())?;
            }
        }
        self.remove_lone_locks()
    }

    /// Removes the locks of processes that ended before they made the directory, or after they removed it.
    fn remove_lone_locks(&self) -> Result<(), StagingError> {
        for file in entries(&self.home)? {
            let name = file.file_name().and_then(|name| name.to_str());
            let Some(suffix) = name.and_then(|name| name.strip_prefix(LOCK)) else {
                continue;
            };
            if self.home.join(format!("{DIRECTORY}{suffix}")).exists() {
                continue;
            }
            if let Some(lock) = LockFile::try_acquire(&file)? {
                remove_tree(lock.path())?;
            }
        }
        Ok(())
    }
}

impl Mine {
    fn make(home: &Path) -> Result<Self, StagingError> {
        let fail = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StagingError::Io {
                action,
                path,
                source,
            }
        };
        let mut builder = DirBuilder::new();
        let builder = builder.recursive(true).mode(0o700);
        builder.create(home).map_err(fail("make directory", home))?;
        loop {
            let suffix = random_suffix();
            let Some(lock) = LockFile::try_acquire(home.join(format!("{LOCK}{suffix}")))? else {
                continue;
            };
            // Somebody who looked for leftovers may have removed the file before it was locked.
            if !lock.path().exists() {
                continue;
            }
            let directory = home.join(format!("{DIRECTORY}{suffix}"));
            builder
                .create(&directory)
                .map_err(fail("make directory", &directory))?;
            return Ok(Self {
                directory,
                next: AtomicU64::new(0),
                lock,
            });
        }
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        // What cannot be removed now is removed as a leftover.
        if fs::remove_dir_all(&self.directory).is_ok() {
            let _ = fs::remove_file(self.lock.path());
        }
    }
}

impl Staged {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Names the process that made it for as long as that runs: see [`StagingArea::is_alive`].
    pub(crate) fn owner(&self) -> String {
        let name = self._mine.directory.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "staged content stays until the next start"
            );
        }
    }
}

/// Removes a file or a tree; nothing there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<(), StagingError> {
    if subvolume::destroy(path) {
        return Ok(());
    }
    let removed = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => fs::remove_file(path),
        other => other,
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| StagingError::Io {
            action: "remove",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Moves a file or directory, by copying a file when the target is on another file system.
pub(crate) fn move_file(from: &Path, to: &Path) -> Result<(), StagingError> {
    let fail = |source| StagingError::Io {
        action: "move into place",
        path: to.to_owned(),
        source,
    };
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => fs::copy(from, to)
            .and_then(|_| fs::remove_file(from))
            .map_err(fail),
        other => other.map_err(fail),
    }
}

fn sub_directories(path: &Path) -> Result<Vec<PathBuf>, StagingError> {
    let mut found = entries(path)?;
    found.retain(|entry| entry.symlink_metadata().is_ok_and(|meta| meta.is_dir()));
    Ok(found)
}

/// What is in a directory; nothing if it is not there.
fn entries(path: &Path) -> Result<Vec<PathBuf>, StagingError> {
    let fail = |source| StagingError::Io {
        action: "list",
        path: path.to_owned(),
        source,
    };
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(fail)?,
    };
    entries
        .map(|entry| Ok(entry.map_err(fail)?.path()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staged_content_goes_with_its_owner() {
        let home = tempfile::tempdir().unwrap();
        let area = StagingArea::new(home.path().join("staging"));
        let staged = area.reserve().unwrap();
        let other = area.reserve().unwrap();
        fs::create_dir_all(staged.path().join("diff/etc")).unwrap();
        fs::write(other.path(), "file").unwrap();
        let paths = [staged.path().to_owned(), other.path().to_owned()];
        assert_ne!(paths[0], paths[1]);
        drop((staged, other));
        assert!(paths.iter().all(|path| !path.exists()));
        drop(area);
        let left = fs::read_dir(home.path().join("staging")).unwrap();
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn leftovers_go_and_what_is_in_use_stays() {
        let home = tempfile::tempdir().unwrap();
        let area = StagingArea::new(home.path().to_owned());
        let used = area.reserve().unwrap();
        fs::create_dir(used.path()).unwrap();
        fs::create_dir_all(home.path().join("temp-dir-1/0-layer")).unwrap();
        fs::create_dir_all(home.path().join("temp-dir-2/0-layer")).unwrap();
        fs::create_dir_all(home.path().join("unrelated")).unwrap();
        fs::write(home.path().join("lock-3"), "").unwrap();
        let held = LockFile::try_acquire(home.path().join("lock-2")).unwrap();
        area.remove_leftovers().unwrap();
        assert!(!home.path().join("temp-dir-1").exists() && !home.path().join("lock-1").exists());
        assert!(!home.path().join("lock-3").exists());
        assert!(held.is_some() && home.path().join("temp-dir-2").exists());
        assert!(used.path().exists() && home.path().join("unrelated").exists());
    }
}
