//! Turning the kernel's return convention into `io::Result`.

use std::io;

/// The value of a raw system call made through libc, or `errno` as an error.
pub(crate) fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
