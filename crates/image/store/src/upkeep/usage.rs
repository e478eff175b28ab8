//! Space taken by layers and images.

use crate::driver::{DriverError, LayerUse};
use crate::{LayerId, Store};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

/// Space taken by what a layer itself adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerUsage {
    /// Allocated bytes, each hard-linked file once.
    pub bytes: u64,
    /// Files, directories and all else.
    pub inodes: u64,
}

/// The file system that images are on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesystemUsage {
    /// A directory on it.
    pub mount_point: PathBuf,
    /// Bytes in use on the whole file system.
    pub used_bytes: u64,
    /// Inodes in use on the whole file system.
    pub used_inodes: u64,
    /// Bytes of the whole file system.
    pub total_bytes: u64,
}

/// Usage could not be determined.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The layer is not there.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A directory could not be walked, or the file system not asked.
    #[error("measure {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Store {
    /// Walks what the layer itself adds. Files that vanish meanwhile are not counted. Of a layer with a project quota the
    /// file system keeps count, of its few files beside the content as well.
    pub fn layer_usage(&self, id: &LayerId) -> Result<LayerUsage, UsageError> {
        if let Some(counted) = self.driver.counted_usage(id)? {
            return Ok(counted);
        }
        let path = self.driver.content(id)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&*path, flags, Mode::empty());
        let walked = root.and_then(|root| walk(root, flags));
        walked.map_err(|error| UsageError::Io {
            path: path.to_path_buf(),
            source: error.into(),
        })
    }

    /// Asks the file system that images are on.
    pub fn image_fs_usage(&self) -> Result<FilesystemUsage, UsageError> {
        let path = self.driver.staging_home(LayerUse::Image);
        let home = path.parent().unwrap_or(&path).to_owned();
        let status = rustix::fs::statvfs(&home).map_err(|error| UsageError::Io {
            path: home.clone(),
            source: error.into(),
        })?;
        Ok(FilesystemUsage {
            mount_point: home,
            used_bytes: (status.f_blocks - status.f_bfree) * status.f_frsize,
            used_inodes: status.f_files.saturating_sub(status.f_ffree),
            total_bytes: status.f_blocks * status.f_frsize,
        })
    }
}

fn walk(root: OwnedFd, flags: OFlags) -> Result<LayerUsage, rustix::io::Errno> {
    use rustix::io::Errno;
    let own = rustix::fs::fstat(&root)?;
    let mut usage = LayerUsage {
        bytes: own.st_blocks as u64 * 512,
        inodes: 1,
    };
    let mut linked = HashSet::new();
    // By name below an open parent: a descriptor for each directory of a wide tree would be too many.
    let mut pending = vec![(Rc::new(root), c".".to_owned())];
    while let Some((parent, name)) = pending.pop() {
        let directory = match rustix::fs::openat(&parent, &name, flags, Mode::empty()) {
            Ok(found) => Rc::new(found),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(error) => return Err(error),
        };
        for item in Dir::read_from(&directory)? {
            let item = item?;
            let name = item.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let status = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
            if !is_directory && status.st_nlink > 1 && !linked.insert(status.st_ino) {
                continue;
            }
            usage.inodes += 1;
            usage.bytes += status.st_blocks as u64 * 512;
            if is_directory {
                pending.push((Rc::clone(&directory), name.to_owned()));
            }
        }
    }
    Ok(usage)
}
