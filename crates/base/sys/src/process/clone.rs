//! `clone3`: a child in new namespaces, in a given cgroup, with a pidfd.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;

use crate::syscall::checked;

/// What kind of child [`CloneRequest::spawn`] makes.
#[derive(Debug, Default)]
pub struct CloneRequest<'a> {
    namespaces: u64,
    flags: u64,
    cgroup: Option<BorrowedFd<'a>>,
    no_exit_signal: bool,
}

/// Which side of a [`CloneRequest::spawn`] the caller is on.
#[derive(Debug)]
pub enum Cloned {
    /// The calling process.
    Parent {
        /// Process id of the child in the caller's pid namespace.
        pid: Pid,
        /// Descriptor of the child; always close-on-exec.
        pidfd: OwnedFd,
    },
    /// The new process.
    Child,
}

impl<'a> CloneRequest<'a> {
    /// A plain child, as `fork` makes it, plus a pidfd.
    pub fn new() -> Self {
        Self::default()
    }

    /// The child starts in new namespaces of these kinds.
    pub fn namespaces(mut self, kinds: UnshareFlags) -> Self {
        // A time namespace entered by clone3 is in use at once and its offsets can no longer be set, so
        // that kind is left to `unshare` before the clone, which only children enter.
        self.namespaces = u64::from(kinds.bits()) & !(libc::CLONE_NEWTIME as u64);
        self
    }

    /// The child becomes a sibling: the caller's parent is its parent and reaps it.
    pub fn sibling(mut self) -> Self {
        self.flags |= libc::CLONE_PARENT as u64;
        // With CLONE_PARENT the exit signal is the caller's own, and the kernel refuses to be given one.
        self.no_exit_signal = true;
        self
    }

    /// The child starts in this cgroup v2 directory (`CLONE_INTO_CGROUP`).
    pub fn into_cgroup(mut self, directory: BorrowedFd<'a>) -> Self {
        self.cgroup = Some(directory);
        self
    }

    /// Makes the child.
    ///
    /// Only a process with a single thread may do this, because no fork handlers run: what another
    /// thread holds locked would stay locked in the child. More threads give `EDEADLK`.
    /// In the child the C library still believes in the old thread id; nothing may be asked of it
    /// that depends on that (`abort`, `raise`, pthread calls).
    ///
    /// # Errors
    /// `EDEADLK` as above, otherwise what clone3(2) reports.
    pub fn spawn(self) -> io::Result<Cloned> {
        if thread_count()? != 1 {
            return Err(io::Error::from_raw_os_error(libc::EDEADLK));
        }
        let mut pidfd: libc::c_int = -1;
        let mut arguments = CloneArguments {
            flags: self.namespaces | self.flags | libc::CLONE_PIDFD as u64,
            pidfd: &raw mut pidfd as u64,
            exit_signal: if self.no_exit_signal {
                0
            } else {
                Signal::CHILD.as_raw() as u64
            },
            ..CloneArguments::default()
        };
        if let Some(cgroup) = self.cgroup {
            arguments.flags |= CLONE_INTO_CGROUP;
            arguments.cgroup = cgroup.as_raw_fd() as u64;
        }
        // SAFETY: no CLONE_VM and no new stack, so the child runs on a private copy of this memory; `arguments`
        // and `pidfd` live through the call; the process has one thread. rustix has no clone3.
        let result = unsafe {
            libc::syscall(
                libc::SYS_clone3,
                &raw mut arguments,
                size_of::<CloneArguments>(),
            )
        };
        let pid = checked(result)?;
        Ok(match Pid::from_raw(pid as i32) {
            None => Cloned::Child,
            Some(pid) => Cloned::Parent {
                pid,
                // SAFETY: the kernel stored a new descriptor in `pidfd` that nobody else owns.
                pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
            },
        })
    }
}

/// `CLONE_INTO_CGROUP`: does not fit libc's `c_int` constants.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The kernel's `struct clone_args`, as of `CLONE_ARGS_SIZE_VER2`.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Number of threads of the calling process.
fn thread_count() -> io::Result<u64> {
    // A directory's link count is two plus its subdirectories; procfs keeps that for `task`.
    let status = rustix::fs::stat("/proc/self/task")?;
    Ok((status.st_nlink as u64).saturating_sub(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::fork::{Fork, exit_now, fork};
    use rustix::process::{WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};

    /// Runs `body` in a forked child, which has one thread, and returns its exit code.
    fn single_threaded(body: impl FnOnce() -> i32) -> i32 {
        match fork().unwrap() {
            Fork::Child => exit_now(body()),
            Fork::Parent(pid) => {
                let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
                status.exit_status().unwrap_or(-1)
            }
        }
    }

    #[test]
    fn pidfd_of_child_reports_its_exit() {
        let code = single_threaded(|| match CloneRequest::new().spawn() {
            Ok(Cloned::Child) => exit_now(7),
            Ok(Cloned::Parent { pidfd, .. }) => {
                use std::os::fd::AsFd;
                let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
                status
                    .ok()
                    .flatten()
                    .and_then(|s| s.exit_status())
                    .unwrap_or(1)
            }
            Err(_) => 2,
        });
        assert_eq!(code, 7);
    }

    #[test]
    fn sibling_is_reaped_by_the_grandparent() {
        let code = single_threaded(|| {
            let Ok(Fork::Parent(middle)) = fork() else {
                match CloneRequest::new().sibling().spawn() {
                    Ok(Cloned::Child) => exit_now(9),
                    Ok(Cloned::Parent { .. }) => exit_now(0),
                    Err(_) => exit_now(1),
                }
            };
            let mut sibling = None;
            for _ in 0..2 {
                let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::empty()) else {
                    return 2;
                };
                if pid != middle {
                    sibling = status.exit_status();
                }
            }
            sibling.unwrap_or(3)
        });
        assert_eq!(code, 9);
    }

    #[test]
    fn several_threads_are_refused() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        let error = CloneRequest::new().spawn().unwrap_err();
        drop(done);
        assert_eq!(error.raw_os_error(), Some(libc::EDEADLK));
        let _ = other.join();
    }
}
