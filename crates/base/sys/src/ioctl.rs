//! Requests of `ioctl` whose argument is a structure, numbered as `asm-generic/ioctl.h` does.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::syscall::checked;

/// Which way the structure goes, seen from here.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Direction {
    Write = 1,
    Read = 2,
    ReadWrite = 3,
}

/// The number of a request whose structure has `size` bytes.
pub(crate) const fn request(direction: Direction, magic: u32, number: u32, size: usize) -> u32 {
    assert!(size < 1 << 14);
    (direction as u32) << 30 | (size as u32) << 16 | magic << 8 | number
}

/// # Safety
/// `argument` points to what the kernel reads and writes for `request`.
pub(crate) unsafe fn call<T>(
    descriptor: BorrowedFd<'_>,
    request: u32,
    argument: *mut T,
) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the whole call; the rest is the caller's promise.
    let result = unsafe { libc::ioctl(descriptor.as_raw_fd(), request as _, argument) };
    checked(result.into()).map(drop)
}
