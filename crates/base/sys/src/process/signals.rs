//! Signals as descriptors, and clean dispositions for a program about to be executed.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use rustix::process::Signal;

use crate::syscall::checked;

/// One signal as read from a [`SignalDescriptor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedSignal {
    /// Signal number.
    pub number: i32,
    /// Sending process, 0 when the kernel sent it.
    pub sender: u32,
}

/// A descriptor that becomes readable when one of its (blocked) signals is pending.
#[derive(Debug)]
pub struct SignalDescriptor(OwnedFd);

impl SignalDescriptor {
    /// Blocks `signals` in the calling thread and opens a non-blocking, close-on-exec descriptor for them.
    ///
    /// # Errors
    /// What signalfd(2) reports.
    pub fn block_and_open(signals: &[Signal]) -> io::Result<Self> {
        let set = signal_set(signals);
        change_mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: `set` is an initialized signal set; rustix has no signalfd.
        let result =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        let number = checked(libc::c_long::from(result))? as i32;
        // SAFETY: signalfd returned a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// The next pending signal, or `None` when there is none.
    ///
    /// # Errors
    /// What read(2) reports, except that nothing is pending.
    pub fn read(&self) -> io::Result<Option<ReceivedSignal>> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut buffer = [0_u8; SIZE];
        match rustix::io::read(&self.0, &mut buffer) {
            Ok(SIZE) => {}
            Ok(_) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // `ssi_signo` and `ssi_pid` are the first and the fourth 32-bit field.
        let field = |at: usize| {
            u32::from_ne_bytes([buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3]])
        };
        Ok(Some(ReceivedSignal {
            number: field(0) as i32,
            sender: field(12),
        }))
    }
}

impl AsFd for SignalDescriptor {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives every signal its default action and unblocks all: what a new program expects to inherit.
///
/// The Rust runtime ignores SIGPIPE, and an ignored signal stays ignored across exec.
pub fn reset_to_defaults() {
    for number in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition; numbers the C library or kernel reserve (KILL, STOP, 32-34)
        // are refused with EINVAL, which is meant to be ignored. rustix has no sigaction outside its runtime module.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let none = signal_set(&[]);
    // Cannot fail: the operation and the set are valid.
    let _ = change_mask(libc::SIG_SETMASK, &none);
}

fn change_mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialized and the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

fn signal_set(signals: &[Signal]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the whole set it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialized by the line above.
    let mut set = unsafe { set.assume_init() };
    for signal in signals {
        // SAFETY: the set is initialized; an invalid number is refused without effect.
        unsafe { libc::sigaddset(&raw mut set, signal.as_raw()) };
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_signal_is_read_once() {
        let signals = SignalDescriptor::block_and_open(&[Signal::USR2]).unwrap();
        assert_eq!(signals.read().unwrap(), None);
        // Directed at this thread, so that no other test thread receives it.
        // SAFETY: tgkill has no memory preconditions.
        unsafe {
            libc::syscall(
                libc::SYS_tgkill,
                libc::getpid(),
                libc::gettid(),
                libc::SIGUSR2,
            );
        }
        let received = signals.read().unwrap().unwrap();
        assert_eq!(received.number, libc::SIGUSR2);
        assert_eq!(received.sender, std::process::id());
        assert_eq!(signals.read().unwrap(), None);
    }
}
