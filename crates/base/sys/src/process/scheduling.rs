//! Scheduling class, I/O priority and execution domain of the calling thread.

use std::io;
use std::mem::size_of;

use crate::syscall::checked;

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
}
