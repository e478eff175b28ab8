//! Loading seccomp filters, and answering the calls that they hold up.

pub mod notify;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::syscall::checked;

/// One classic BPF instruction, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jump_true: u8,
    /// Instructions to skip when it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

/// How a filter is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FilterFlags {
    /// Actions other than allow are logged (`SECCOMP_FILTER_FLAG_LOG`).
    pub log: bool,
    /// No speculative store bypass mitigation (`SECCOMP_FILTER_FLAG_SPEC_ALLOW`).
    pub allow_speculation: bool,
    /// Return a notification descriptor (`SECCOMP_FILTER_FLAG_NEW_LISTENER`).
    pub new_listener: bool,
    /// Notified calls are only interrupted by fatal signals (`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`).
    pub wait_killable: bool,
}

/// Adds a filter to the calling thread, for good. Returns the notification descriptor if one was asked for.
///
/// The thread needs `no_new_privs` or `CAP_SYS_ADMIN` in its user namespace.
///
/// # Errors
/// `EINVAL` for a program the kernel does not accept, `EACCES` without the privilege.
pub fn load_filter(program: &[Instruction], flags: FilterFlags) -> io::Result<Option<OwnedFd>> {
    let length =
        u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // The kernel only reads the program; libc's struct merely lacks the const.
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut().cast(),
    };
    let mut bits = 0;
    for (wanted, bit) in [
        (flags.log, libc::SECCOMP_FILTER_FLAG_LOG),
        (
            flags.allow_speculation,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        ),
        (flags.new_listener, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER),
        (
            flags.wait_killable,
            libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
        ),
    ] {
        if wanted {
            bits |= bit;
        }
    }
    // SAFETY: `program` points at `length` instructions of the kernel's layout (repr(C) above) that outlive the
    // call; rustix has no seccomp(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            bits,
            &raw const program,
        )
    };
    let value = checked(result)?;
    if !flags.new_listener {
        return Ok(None);
    }
    // SAFETY: with NEW_LISTENER the call returns a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(value as i32) }))
}

/// Whether the kernel knows this seccomp return action (a `SECCOMP_RET_*` value without data).
pub fn action_available(action: u32) -> bool {
    // SAFETY: `action` outlives the call, which only reads it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_GET_ACTION_AVAIL,
            0,
            &raw const action,
        )
    };
    result == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::fork::{Fork, exit_now, fork};
    use rustix::process::{WaitOptions, waitpid};

    #[test]
    fn filter_takes_effect() {
        // Every call but exit_group and rt_sigreturn fails with errno 77.
        let program = [
            Instruction {
                code: 0x20,
                jump_true: 0,
                jump_false: 0,
                operand: 0,
            },
            Instruction {
                code: 0x15,
                jump_true: 0,
                jump_false: 1,
                operand: libc::SYS_exit_group as u32,
            },
            Instruction {
                code: 0x06,
                jump_true: 0,
                jump_false: 0,
                operand: libc::SECCOMP_RET_ALLOW,
            },
            Instruction {
                code: 0x06,
                jump_true: 0,
                jump_false: 0,
                operand: libc::SECCOMP_RET_ERRNO | 77,
            },
        ];
        let Fork::Parent(pid) = fork().unwrap() else {
            let loaded = rustix::thread::set_no_new_privs(true).is_ok()
                && load_filter(&program, FilterFlags::default()).is_ok();
            let error = rustix::fs::stat("/").err().map_or(0, |e| e.raw_os_error());
            exit_now(if loaded { error } else { 1 });
        };
        let status = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1;
        assert_eq!(status.exit_status(), Some(77));
    }

    #[test]
    fn empty_program_is_refused() {
        assert!(load_filter(&[], FilterFlags::default()).is_err());
        assert!(action_available(libc::SECCOMP_RET_ALLOW));
        assert!(!action_available(0x1234_0000));
    }
}
