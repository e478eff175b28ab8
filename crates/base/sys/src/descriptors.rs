//! Descriptors by number: inherited ones, closing ranges, placing one at a fixed number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::syscall::checked;

/// What [`close_from`] does with each descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseMode {
    /// Mark close-on-exec; the descriptors stay usable until then.
    OnExec,
    /// Close now. Every `OwnedFd` of such a number must have been forgotten or must never be dropped.
    Now,
}

/// Takes ownership of a descriptor the process was started with (for example `3`, passed by a parent).
///
/// Returns `EBADF` when it is not open. To be called once per number, before anything else of the
/// process opened descriptors, since ownership of a number cannot be checked.
///
/// # Errors
/// `EBADF`.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only reads a flag of the number; an unused number gives EBADF.
    checked(libc::c_long::from(unsafe {
        libc::fcntl(number, libc::F_GETFD)
    }))?;
    // SAFETY: the number is open, and by this function's contract no other owner exists in the process.
    // rustix has no safe constructor either, since the claim is about the program as a whole.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

/// Closes all descriptors from `first` upwards, or marks them close-on-exec.
///
/// # Errors
/// What close_range(2) reports.
pub fn close_from(first: RawFd, mode: CloseMode) -> io::Result<()> {
    let flags = match mode {
        CloseMode::OnExec => libc::CLOSE_RANGE_CLOEXEC,
        CloseMode::Now => 0,
    };
    close_range(first, RawFd::MAX, flags)
}

/// Closes all descriptors from `first` upwards, except those listed.
///
/// For a process that was forked with descriptors of others and does not execute a program soon. As with
/// [`CloseMode::Now`], owners of what is closed must never be dropped.
///
/// # Errors
/// What close_range(2) reports.
pub fn close_all_except(first: RawFd, kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<RawFd> = kept
        .iter()
        .copied()
        .filter(|number| *number >= first)
        .collect();
    kept.sort_unstable();
    kept.dedup();
    let mut start = first;
    for number in kept {
        if number > start {
            close_range(start, number - 1, 0)?;
        }
        start = number + 1;
    }
    close_range(start, RawFd::MAX, 0)
}

/// Makes `number` a duplicate of `source` that survives exec, replacing what was open there.
///
/// # Errors
/// What dup3(2) or fcntl(2) report.
pub fn place_at(source: impl AsFd, number: RawFd) -> io::Result<()> {
    let source = source.as_fd();
    if source.as_raw_fd() == number {
        rustix::io::fcntl_setfd(source, rustix::io::FdFlags::empty())?;
        return Ok(());
    }
    // SAFETY: no memory is involved; the target number is given up by this function's contract.
    // rustix's dup2 wants an existing `OwnedFd` of the target, which a number yet unused does not have.
    checked(libc::c_long::from(unsafe {
        libc::dup2(source.as_raw_fd(), number)
    }))
    .map(drop)
}

/// Clears close-on-exec on an inherited number, so that it reaches the program executed next.
///
/// # Errors
/// `EBADF` when the number is not open.
pub fn keep_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD changes a flag of the number and touches no memory; rustix's fcntl_setfd would need
    // a `BorrowedFd`, which cannot be made from a bare number safely.
    checked(libc::c_long::from(unsafe {
        libc::fcntl(number, libc::F_SETFD, 0)
    }))
    .map(drop)
}

fn close_range(first: RawFd, last: RawFd, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: no memory is involved; that nothing owns what is closed is the contract of the public functions.
    // rustix has no close_range.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn unknown_number_is_refused() {
        assert_eq!(
            take_inherited(987_654).unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
        assert_eq!(
            keep_on_exec(987_654).unwrap_err().raw_os_error(),
            Some(libc::EBADF)
        );
    }

    #[test]
    fn placed_descriptor_is_the_same_file() {
        let source = File::open("/dev/null").unwrap();
        place_at(&source, 700).unwrap();
        let placed = take_inherited(700).unwrap();
        let (a, b) = (
            rustix::fs::fstat(&source).unwrap(),
            rustix::fs::fstat(&placed).unwrap(),
        );
        assert_eq!((a.st_rdev, a.st_ino), (b.st_rdev, b.st_ino));
    }

    #[test]
    fn only_listed_descriptors_stay() {
        use crate::process::fork::{Fork, exit_now, fork};
        use crate::process::reap::{Ending, wait_for};
        use std::os::fd::IntoRawFd;
        let Fork::Parent(pid) = fork().unwrap() else {
            let open = || {
                File::open("/dev/null")
                    .map(IntoRawFd::into_raw_fd)
                    .unwrap_or(-1)
            };
            let (a, b, c) = (open(), open(), open());
            let closed = close_all_except(a, &[b, 2, b]).is_ok();
            let is_open = |number| keep_on_exec(number).is_ok();
            exit_now(i32::from(
                !(closed && !is_open(a) && is_open(b) && !is_open(c) && is_open(2)),
            ));
        };
        assert_eq!(wait_for(pid).unwrap(), Ending::Exited(0));
    }
}
