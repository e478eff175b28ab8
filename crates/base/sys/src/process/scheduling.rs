//! Scheduling class, I/O priority and execution domain of the calling thread.

use std::io;
use std::mem::size_of;

use crate::syscall::checked;

/// `SCHED_NORMAL` and `SCHED_FIFO` of sched(7).
const NORMAL: u32 = 0;
const FIRST_IN_FIRST_OUT: u32 = 1;
/// `SCHED_FLAG_RESET_ON_FORK`: threads and processes made from here are ordinary ones.
const RESET_ON_FORK: u64 = 1;
/// Turn of an ordinary thread, nanoseconds (Linux 6.12 and later): the kernel lets short turns come first.
const SHORT_TURN: u64 = 100_000;

/// Scheduling parameters, laid out as the kernel's `struct sched_attr` (`SCHED_ATTR_SIZE_VER1`).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedulingAttributes {
    /// Filled in when it is used.
    pub size: u32,
    /// `SCHED_*` policy number.
    pub policy: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// Nice value, for the normal policies.
    pub nice: i32,
    /// Static priority, for the real-time policies.
    pub priority: u32,
    /// Nanoseconds, for the deadline policy.
    pub runtime: u64,
    /// Nanoseconds, for the deadline policy.
    pub deadline: u64,
    /// Nanoseconds, for the deadline policy.
    pub period: u64,
    /// Smallest utilization hint.
    pub utilization_min: u32,
    /// Largest utilization hint.
    pub utilization_max: u32,
}

/// Sets the calling thread's scheduling parameters.
///
/// # Errors
/// What sched_setattr(2) reports.
pub fn set_scheduling(mut attributes: SchedulingAttributes) -> io::Result<()> {
    attributes.size = size_of::<SchedulingAttributes>() as u32;
    // SAFETY: the structure has the kernel's layout, carries its own size and outlives the call; rustix has
    // no sched_setattr.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw mut attributes, 0) }).map(drop)
}

/// Moves the calling thread before all ordinary ones, for work that is short and that others wait for. What it makes is
/// ordinary.
///
/// It gets the lowest real-time priority, by which it also runs at once on whichever processor is free; where the host
/// refuses that, nice -20.
///
/// # Errors
/// The host refuses both.
pub fn go_first() -> io::Result<()> {
    let real_time = SchedulingAttributes {
        policy: FIRST_IN_FIRST_OUT,
        flags: RESET_ON_FORK,
        priority: 1,
        ..SchedulingAttributes::default()
    };
    let nice = SchedulingAttributes {
        policy: NORMAL,
        flags: RESET_ON_FORK,
        nice: -20,
        runtime: SHORT_TURN,
        ..SchedulingAttributes::default()
    };
    set_scheduling(real_time).or_else(|_| set_scheduling(nice))
}

/// Moves the calling thread behind ordinary ones, for work that nobody waits for. It still gets a tenth of what one of them
/// gets, as it may hold what they need.
///
/// # Errors
/// What sched_setattr(2) reports.
pub fn go_behind() -> io::Result<()> {
    set_scheduling(SchedulingAttributes {
        policy: NORMAL,
        nice: 10,
        ..SchedulingAttributes::default()
    })
}

/// Sets the calling thread's I/O priority: class 1 real-time, 2 best effort, 3 idle; level 0 (high) to 7.
///
/// # Errors
/// What ioprio_set(2) reports.
pub fn set_io_priority(class: u16, level: u16) -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    let value = (libc::c_int::from(class) << 13) | libc::c_int::from(level & 0x1fff);
    // SAFETY: no memory is involved; rustix has no ioprio_set.
    checked(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) }).map(drop)
}

/// Sets the execution domain (`PER_LINUX` is 0, `PER_LINUX32` is 8).
///
/// # Errors
/// What personality(2) reports.
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: no memory is involved; rustix has no personality.
    checked(libc::c_long::from(unsafe {
        libc::personality(libc::c_ulong::from(domain))
    }))
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::fork::{Fork, exit_now, fork};
    use crate::process::reap::{Ending, wait_for};

    #[test]
    fn own_priorities_can_be_lowered() {
        let Fork::Parent(pid) = fork().unwrap() else {
            let batch = SchedulingAttributes {
                policy: 3,
                nice: 5,
                ..SchedulingAttributes::default()
            };
            let done = set_io_priority(3, 0).is_ok()
                && set_scheduling(batch).is_ok()
                && rustix::process::getpriority_process(None) == Ok(5)
                && set_personality(8).is_ok();
            exit_now(i32::from(!done));
        };
        assert_eq!(wait_for(pid).unwrap(), Ending::Exited(0));
    }

    #[test]
    fn what_goes_first_makes_ordinary_threads() {
        let made = std::thread::spawn(|| {
            let _ = go_first();
            let ordinary = || (policy(), rustix::process::getpriority_process(None));
            std::thread::spawn(ordinary).join().unwrap()
        });
        assert_eq!(made.join().unwrap(), (NORMAL, Ok(0)));
    }

    #[test]
    fn what_goes_behind_is_alone_in_it() {
        let nice = || rustix::process::getpriority_process(None);
        let before = nice();
        let made = std::thread::spawn(move || {
            go_behind().unwrap();
            nice()
        });
        assert_eq!(made.join().unwrap(), Ok(10));
        assert_eq!(nice(), before);
    }

    /// The calling thread's, by proc_pid_stat(5): the 41st field.
    fn policy() -> u32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().nth(38).unwrap().parse().unwrap()
    }
}
