//! Reaping children, whichever ended first.

use std::io;

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, waitid, waitpid};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Signaled {
        /// Signal number.
        signal: i32,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
}

impl Ending {
    /// The code a shell would show: the exit code, or 128 plus the signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled { signal, .. } => 128 + signal,
        }
    }
}

/// What [`reap_next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaped {
    /// This child ended and is gone now.
    Child(Pid, Ending),
    /// There are children, and all run.
    NoneReady,
    /// There are no children.
    NoChildren,
}

/// Reaps one ended child, without waiting.
///
/// # Errors
/// What waitpid(2) reports, except for the absence of children.
pub fn reap_next() -> io::Result<Reaped> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(None) => return Ok(Reaped::NoneReady),
            Ok(Some((pid, status))) => {
                if let Some(ending) = ending(status) {
                    return Ok(Reaped::Child(pid, ending));
                }
            }
            Err(rustix::io::Errno::CHILD) => return Ok(Reaped::NoChildren),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for this child to end and reaps it.
///
/// # Errors
/// What waitpid(2) reports: `ECHILD` when it is no child of the caller or already reaped.
pub fn wait_for(pid: Pid) -> io::Result<Ending> {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => {
                if let Some(ending) = ending(status) {
                    return Ok(ending);
                }
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether the child of this pidfd has ended; it stays to be reaped.
///
/// # Errors
/// What waitid(2) reports: `ECHILD` when it is no child of the caller.
pub fn has_ended(pidfd: impl std::os::fd::AsFd) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    Ok(waitid(WaitId::PidFd(pidfd.as_fd()), options)?.is_some())
}

fn ending(status: rustix::process::WaitStatus) -> Option<Ending> {
    if let Some(code) = status.exit_status() {
        return Some(Ending::Exited(code));
    }
    let signal = status.terminating_signal()?;
    Some(Ending::Signaled {
        signal,
        core_dumped: status.as_raw() & 0x80 != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::fork::{Fork, exit_now, fork};

    #[test]
    fn exit_and_signal_are_told_apart() {
        let Fork::Parent(pid) = fork().unwrap() else {
            exit_now(3)
        };
        assert_eq!(wait_for(pid).unwrap(), Ending::Exited(3));

        let Fork::Parent(pid) = fork().unwrap() else {
            loop {
                std::thread::park();
            }
        };
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let ending = wait_for(pid).unwrap();
        assert_eq!(
            ending,
            Ending::Signaled {
                signal: 9,
                core_dumped: false
            }
        );
        assert_eq!(ending.shell_code(), 137);
        assert_eq!(
            wait_for(pid).unwrap_err().raw_os_error(),
            Some(libc::ECHILD)
        );
    }
}
