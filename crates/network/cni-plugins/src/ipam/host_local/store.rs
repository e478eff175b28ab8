//! Reserved addresses on disk: one file per address, and the last one per range set.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crioxide_files::read_to_string_limited;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Records hold a container id and an interface name.
const RECORD_LIMIT: u64 = 4096;
/// How long to wait before asking for a busy lock again.
const LOCK_PAUSE: Duration = Duration::from_micros(200);

/// A network's records, locked against other users until dropped.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    /// Holds the lock; closing it releases it.
    _lock: File,
}

/// Whom an address is reserved for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner<'a> {
    pub(super) container_id: &'a str,
    pub(super) ifname: &'a str,
}

/// The records could not be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// Reading or writing failed.
    #[error("{action} `{}`", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A record could not be read.
    #[error("read address record")]
    Record {
        source: crioxide_files::ReadLimitedError,
    },
    /// Somebody else kept the lock.
    #[error("lock `{}`: still held by another process at the deadline", path.display())]
    Locked { path: PathBuf },
}

impl Owner<'_> {
    /// The record's text, with the reference plugin's line break.
    fn record(&self) -> String {
        format!("{}\r\n{}", self.container_id.trim(), self.ifname)
    }

    /// Whether a record is this owner's; very old ones hold only the container id.
    fn owns(&self, record: &str) -> bool {
        let record = record.trim();
        record == self.record() || record == self.container_id.trim()
    }
}

impl Store {
    /// Opens `directory`, making it when needed, and waits for its lock.
    pub(super) fn open(directory: &Path, deadline: Instant) -> Result<Self, StoreError> {
        let path = directory.join("lock");
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o750)
                .open(&path)
        };
        let opened = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(directory)
                    .map_err(|source| io_error("create", directory, source))?;
                open()
            }
            opened => opened,
        };
        let lock = opened.map_err(|source| io_error("open", &path, source))?;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    return Ok(Self {
                        directory: directory.to_owned(),
                        _lock: lock,
                    });
                }
                Err(Errno::WOULDBLOCK) if Instant::now() >= deadline => {
                    return Err(StoreError::Locked { path });
                }
                Err(Errno::WOULDBLOCK) => thread::sleep(LOCK_PAUSE),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(io_error("lock", &path, errno.into())),
            }
        }
    }

    /// Reserves an address; `false` when it is taken.
    pub(super) fn reserve(
        &self,
        address: IpAddr,
        owner: &Owner<'_>,
        set_number: usize,
    ) -> Result<bool, StoreError> {
        let path = self.path_of(address);
        let mut file = match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&path)
        {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            file => file.map_err(|source| io_error("create", &path, source))?,
        };
        let last = self
            .directory
            .join(format!("last_reserved_ip.{set_number}"));
        let written = file
            .write_all(owner.record().as_bytes())
            .map_err(|source| io_error("write", &path, source))
            .and_then(|()| {
                overwrite(&last, &address.to_string())
                    .map_err(|source| io_error("write", &last, source))
            });
        if let Err(error) = written {
            // An address nobody owns would never be given back.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(true)
    }

    /// The address reserved last for a range set.
    pub(super) fn last_reserved(&self, set_number: usize) -> Result<Option<IpAddr>, StoreError> {
        let path = self
            .directory
            .join(format!("last_reserved_ip.{set_number}"));
        match read_to_string_limited(&path, RECORD_LIMIT) {
            // A damaged record only means that the search begins at the start.
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.is_not_found() => Ok(None),
            Err(source) => Err(StoreError::Record { source }),
        }
    }

    /// Gives an address back when `owner` has it; tells whether it had.
    pub(super) fn release(&self, address: IpAddr, owner: &Owner<'_>) -> Result<bool, StoreError> {
        let path = self.path_of(address);
        if !self
            .record_of(&path)?
            .is_some_and(|record| owner.owns(&record))
        {
            return Ok(false);
        }
        fs::remove_file(&path).map_err(|source| io_error("remove", &path, source))?;
        Ok(true)
    }

    /// The addresses `owner` has.
    pub(super) fn owned(&self, owner: &Owner<'_>) -> Result<Vec<IpAddr>, StoreError> {
        let mut owned = Vec::new();
        for address in self.taken()? {
            if self
                .record_of(&self.path_of(address))?
                .is_some_and(|record| owner.owns(&record))
            {
                owned.push(address);
            }
        }
        Ok(owned)
    }

    /// Gives back every address that belongs to none of `valid` (container id, interface).
    pub(super) fn release_all_but(&self, valid: &[(&str, &str)]) -> Result<(), StoreError> {
        for address in self.taken()? {
            let path = self.path_of(address);
            let record = self.record_of(&path)?.unwrap_or_default();
            let is_valid = valid.iter().any(|(container_id, ifname)| {
                Owner {
                    container_id,
                    ifname,
                }
                .owns(&record)
            });
            if !is_valid {
                fs::remove_file(&path).map_err(|source| io_error("remove", &path, source))?;
            }
        }
        Ok(())
    }

    /// All reserved addresses.
    pub(super) fn taken(&self) -> Result<HashSet<IpAddr>, StoreError> {
        let failed = |source| io_error("list", &self.directory, source);
        let mut taken = HashSet::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            taken.extend(
                entry
                    .map_err(failed)?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<IpAddr>().ok()),
            );
        }
        Ok(taken)
    }

    fn path_of(&self, address: IpAddr) -> PathBuf {
        self.directory.join(address.to_string())
    }

    fn record_of(&self, path: &Path) -> Result<Option<String>, StoreError> {
        match read_to_string_limited(path, RECORD_LIMIT) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(source) => Err(StoreError::Record { source }),
        }
    }
}

/// Replaces a small file's content in place: cutting it to nothing first makes ext4 write it to the
/// device on close. The lock keeps readers away meanwhile.
fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    let length = u64::try_from(text.len()).map_err(io::Error::other)?;
    if file.metadata()?.len() != length {
        file.set_len(length)?;
    }
    Ok(())
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
