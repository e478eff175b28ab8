//! `fork` and `_exit`.

use std::io;

use rustix::process::Pid;

use crate::syscall::checked;

/// Which side of a [`fork`] the caller is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The calling process; the child has this process id.
    Parent(Pid),
    /// The new process. It has one thread, a copy of the one that forked.
    Child,
}

/// Duplicates the calling process.
///
/// The C library's `fork` is used and not a bare system call, because it leaves the allocator usable in
/// the child even when other threads were allocating. Locks of anything else that another thread held
/// stay held forever in the child, so programs that fork should have one thread; the child may
/// deadlock otherwise, which is a bug but not undefined behaviour.
///
/// # Errors
/// What fork(2) reports: `EAGAIN` at a process limit, `ENOMEM`.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: fork has no memory preconditions. rustix offers it only as an unsafe, experimental
    // runtime function that skips the allocator's fork handlers.
    let result = unsafe { libc::fork() };
    let pid = checked(libc::c_long::from(result))?;
    Ok(match Pid::from_raw(pid as i32) {
        Some(pid) => Fork::Parent(pid),
        None => Fork::Child,
    })
}

/// Ends the process at once, running no exit handlers and flushing no buffers: the right end for a forked child.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and touches no memory of ours. rustix has it only as `runtime::exit_group`,
    // behind its experimental feature.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitOptions, waitpid};

    #[test]
    fn child_exit_code_reaches_the_parent() {
        match fork().unwrap() {
            Fork::Child => exit_now(42),
            Fork::Parent(pid) => {
                let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
                assert_eq!(status.exit_status(), Some(42));
            }
        }
    }
}
