//! Waiting for the end of processes that are not our children.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long a killed process may take to go. One that hangs in the kernel is not waited for longer.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// Waits until the process of this pidfd has ended, and says whether it did.
pub(crate) fn wait(pidfd: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut polled, Some(&PATIENCE))).is_ok_and(|ready| ready > 0)
}
