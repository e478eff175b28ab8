//! Open-file-description record locks over a whole file.
//!
//! They conflict with the classic POSIX record locks of other processes, but belong to the open file and not to the
//! process: closing another descriptor of the same file does not drop them, and two opens in one process exclude each other.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// What a record lock shares the file with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Other readers.
    Shared,
    /// Nobody. Needs a descriptor open for writing.
    Exclusive,
}

/// Locks the whole file, waiting for as long as it takes. An existing lock of this open file is converted.
pub fn lock_file(file: impl AsFd, kind: LockKind) -> io::Result<()> {
    loop {
        match ofd_lock(&file, kind, libc::F_OFD_SETLKW) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Locks the whole file if nobody holds it; `false` when somebody does.
pub fn try_lock_file(file: impl AsFd, kind: LockKind) -> io::Result<bool> {
    match ofd_lock(&file, kind, libc::F_OFD_SETLK) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn ofd_lock(file: &impl AsFd, kind: LockKind, command: libc::c_int) -> io::Result<()> {
    let lock_type = match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    };
    let range = libc::flock {
        l_type: lock_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        // Open-file-description locks demand 0 here.
        l_pid: 0,
    };
    // SAFETY: the descriptor is borrowed for the call and `range` is a complete `flock` that outlives it.
    // rustix offers only process-wide POSIX locks, which any close of the same file would drop.
    let result = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, &range) };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};

    fn open(path: &std::path::Path) -> File {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap()
    }

    #[test]
    fn two_opens_of_one_process_exclude_each_other() {
        let path = std::env::temp_dir().join(format!("crioxide-ofd-{}", std::process::id()));
        let (first, second) = (open(&path), open(&path));
        lock_file(&first, LockKind::Exclusive).unwrap();
        assert!(!try_lock_file(&second, LockKind::Shared).unwrap());
        // A close of an unrelated descriptor must not drop the lock, as it would with POSIX locks.
        drop(open(&path));
        assert!(!try_lock_file(&second, LockKind::Exclusive).unwrap());
        drop(first);
        assert!(try_lock_file(&second, LockKind::Exclusive).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
}
