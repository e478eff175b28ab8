//! Waiting for the end of processes that are not our children.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;

/// How long a killed process may take to go. One that hangs in the kernel is not waited for longer.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};
/// So many times that long for one that would go if it got a processor.
const ROUNDS: usize = 6;

/// Waits until the process of this pidfd has ended, and says whether it did.
pub(crate) fn wait(pid: Pid, pidfd: &OwnedFd) -> bool {
    for _ in 0..ROUNDS {
        let mut polled = [PollFd::new(pidfd, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(&mut polled, Some(&PATIENCE))).is_ok_and(|n| n > 0) {
            return true;
        }
        if !is_runnable(pid) {
            return false;
        }
    }
    false
}

/// Whether it has all it needs but a processor.
fn is_runnable(pid: Pid) -> bool {
    // The name in parentheses may hold anything; the state is behind the last one.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('R'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_runs_is_runnable_and_one_that_sleeps_is_not() {
        assert!(is_runnable(rustix::thread::gettid()));
        let mut sleeping = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("sleep");
        let pid = Pid::from_child(&sleeping);
        // It runs until it sleeps.
        while is_runnable(pid) {
            std::thread::yield_now();
        }
        sleeping.kill().expect("kill");
        sleeping.wait().expect("wait");
        assert!(!is_runnable(pid));
    }
}
