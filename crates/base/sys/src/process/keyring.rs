//! Session keyrings.

use std::ffi::CStr;
use std::io;

use crate::syscall::checked;

/// Gives the process a session keyring of this name, a new one unless one exists that it may join, and returns
/// the keyring's serial number.
///
/// # Errors
/// What keyctl(2) reports: `ENOSYS` without key support, `EDQUOT` at the user's quota.
pub fn join_session_keyring(name: &CStr) -> io::Result<i32> {
    // SAFETY: `name` is a NUL-terminated string that outlives the call; rustix has no keyctl.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            name.as_ptr(),
        )
    };
    checked(result).map(|serial| serial as i32)
}
