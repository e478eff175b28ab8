//! Leaving namespaces.

use std::io;

use rustix::thread::UnshareFlags;

/// Moves the calling thread into new namespaces of the given kinds.
///
/// Only namespace kinds are accepted: `FILES` would make other threads' descriptors a matter of which
/// thread asks, which is why rustix calls this function unsafe.
///
/// # Errors
/// `EINVAL` for anything that is not a namespace, otherwise what unshare(2) reports.
pub fn unshare(kinds: UnshareFlags) -> io::Result<()> {
    if kinds.intersects(UnshareFlags::FILES | UnshareFlags::FS | UnshareFlags::SYSVSEM) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the precondition is that no unshared descriptor table breaks I/O safety; `FILES` was refused above.
    unsafe { rustix::thread::unshare_unsafe(kinds) }?;
    Ok(())
}
