//! A working directory for one thread.

use rustix::thread::UnshareFlags;
use std::io;

/// Gives the calling thread a working directory, root and umask of its own, which it may then change alone.
///
/// Meant for a short-lived thread: the division cannot be undone.
///
/// # Errors
/// What unshare(2) reports.
pub fn unshare_working_directory() -> io::Result<()> {
    // SAFETY: rustix calls `unshare` unsafe because of `FILES`, which would split the descriptor table; `FS` splits only
    // paths, on which no safety depends.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
    Ok(())
}
