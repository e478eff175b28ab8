//! System calls that a filter holds up until somebody answers them.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::syscall::checked;

/// A system call that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldCall {
    /// Names it in the answer.
    pub id: u64,
    /// Number of the calling thread in the reader's PID namespace.
    pub pid: u32,
    /// The kernel's `AUDIT_ARCH_*` value.
    pub architecture: u32,
    /// Number of the system call.
    pub number: u32,
}

/// Takes the next held call from a notification descriptor; waits for one if there is none.
///
/// # Errors
/// `ENOENT` when the call was given up meanwhile, `EINTR`, or what else the kernel reports.
pub fn receive(listener: impl AsFd) -> io::Result<HeldCall> {
    let mut held = libc::seccomp_notif {
        id: 0,
        pid: 0,
        flags: 0,
        data: libc::seccomp_data {
            nr: 0,
            arch: 0,
            instruction_pointer: 0,
            args: [0; 6],
        },
    };
    // SAFETY: the request's number carries the structure's size; it is zeroed, as the kernel demands, and outlives the
    // call, which writes within it.
    checked(i64::from(unsafe {
        libc::ioctl(
            listener.as_fd().as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut held,
        )
    }))?;
    Ok(HeldCall {
        id: held.id,
        pid: held.pid,
        architecture: held.data.arch,
        number: held.data.nr.cast_unsigned(),
    })
}

/// Lets a held call fail with an error number.
///
/// # Errors
/// `ENOENT` when the caller is gone or was interrupted, or what else the kernel reports.
pub fn refuse(listener: impl AsFd, call: HeldCall, errno: i32) -> io::Result<()> {
    let mut answer = libc::seccomp_notif_resp {
        id: call.id,
        val: 0,
        error: -errno,
        flags: 0,
    };
    // SAFETY: as above; the kernel only reads it.
    checked(i64::from(unsafe {
        libc::ioctl(
            listener.as_fd().as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw mut answer,
        )
    }))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{packet_pair, receive_packet, send_packet};
    use crate::process::fork::{Fork, exit_now, fork};
    use crate::seccomp::{FilterFlags, Instruction, load_filter};
    use rustix::process::{WaitOptions, waitpid};

    #[test]
    fn a_held_call_gets_the_answer() {
        let instruction = |code, jump_true, jump_false, operand| Instruction {
            code,
            jump_true,
            jump_false,
            operand,
        };
        // getppid waits for an answer, all else is allowed.
        let program = [
            instruction(0x20, 0, 0, 0),
            instruction(0x15, 0, 1, libc::SYS_getppid as u32),
            instruction(0x06, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
            instruction(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let (ours, theirs) = packet_pair().unwrap();
        let Fork::Parent(pid) = fork().unwrap() else {
            let flags = FilterFlags {
                new_listener: true,
                ..FilterFlags::default()
            };
            let sent = rustix::thread::set_no_new_privs(true).is_ok()
                && matches!(load_filter(&program, flags), Ok(Some(listener))
                    if send_packet(&theirs, b"it", &[listener.as_fd()]).is_ok());
            // SAFETY: the call takes no memory. It is made by number, as it cannot fail otherwise.
            let answer = checked(unsafe { libc::syscall(libc::SYS_getppid) });
            let number = answer.err().and_then(|error| error.raw_os_error());
            exit_now(if sent { number.unwrap_or(2) } else { 1 });
        };
        let packet = receive_packet(&ours, &mut [0; 8]).unwrap();
        let listener = &packet.descriptors[0];
        let held = receive(listener).unwrap();
        assert_eq!(held.number, libc::SYS_getppid as u32);
        assert_eq!(held.pid, pid.as_raw_nonzero().get().cast_unsigned());
        refuse(listener, held, 77).unwrap();
        refuse(listener, held, 77).expect_err("it is answered once");
        let status = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1;
        assert_eq!(status.exit_status(), Some(77));
    }
}
