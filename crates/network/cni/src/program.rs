//! A program's run: fed, listened to, and ended at a deadline.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

const STDERR_LIMIT: usize = 64 * 1024;

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its output, as far as the limit.
    pub stdout: Vec<u8>,
    /// What it said, as far as 64 KiB.
    pub stderr: Vec<u8>,
}

/// Kills the program's whole process group when it is still there.
pub(crate) struct Running {
    child: Child,
    reaped: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
                // Nothing is left to do when this fails: the group is gone already.
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.child.wait();
        }
    }
}

/// Runs a program, in a process group of its own, to its end or to the deadline, where its group is killed and nothing is
/// returned. Of its output `stdout_limit` bytes are kept.
///
/// # Errors
/// When it cannot be started or talked to.
pub fn run_program(
    command: &mut Command,
    stdin: &[u8],
    stdout_limit: usize,
    deadline: Instant,
) -> io::Result<Option<Finished>> {
    exchange(start(command)?, stdin, stdout_limit, deadline)
}

/// Starts a program whose standard streams are pipes.
pub(crate) fn start(command: &mut Command) -> io::Result<Running> {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    Ok(Running {
        child,
        reaped: false,
    })
}

/// Moves data until the program has ended; `None` when the deadline came first.
///
/// The end is the program's own, not that of its output: a daemon it left behind may hold the
/// pipes for ever.
pub(crate) fn exchange(
    mut running: Running,
    stdin: &[u8],
    stdout_limit: usize,
    deadline: Instant,
) -> io::Result<Option<Finished>> {
    let raw = i32::try_from(running.child.id())
        .ok()
        .and_then(Pid::from_raw);
    let pidfd = pidfd_open(raw.ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
    let mut input = running.child.stdin.take();
    let mut output = running.child.stdout.take();
    let mut errors = running.child.stderr.take();
    for fd in [
        input.as_ref().map(AsFd::as_fd),
        output.as_ref().map(AsFd::as_fd),
        errors.as_ref().map(AsFd::as_fd),
    ] {
        set_nonblocking(fd)?;
    }
    let mut unsent = stdin;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    loop {
        if unsent.is_empty() {
            input = None;
        }
        let ended = {
            let mut waits = vec![PollFd::new(&pidfd, PollFlags::IN)];
            waits.extend(input.as_ref().map(|fd| PollFd::new(fd, PollFlags::OUT)));
            waits.extend(output.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            waits.extend(errors.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut waits, Some(&timeout)) {
                Ok(0) => return Ok(None),
                Err(Errno::INTR) => continue,
                polled => polled?,
            };
            !waits[0].revents().is_empty()
        };
        if let Some(fd) = &input {
            match rustix::io::write(fd, unsent) {
                Ok(count) => unsent = &unsent[count..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                // It does not read its input; what it prints still counts.
                Err(Errno::PIPE) => unsent = &[],
                Err(errno) => return Err(errno.into()),
            }
        }
        if drain(output.as_ref().map(AsFd::as_fd), &mut stdout, stdout_limit)? == Stream::Closed {
            output = None;
        }
        if drain(errors.as_ref().map(AsFd::as_fd), &mut stderr, STDERR_LIMIT)? == Stream::Closed {
            errors = None;
        }
        if ended {
            let status = running.child.wait()?;
            running.reaped = true;
            return Ok(Some(Finished {
                status,
                stdout,
                stderr,
            }));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stream {
    Open,
    Closed,
}

/// Reads what is there; beyond `limit` it is read and dropped, so that the program does not hang.
fn drain(fd: Option<BorrowedFd<'_>>, into: &mut Vec<u8>, limit: usize) -> io::Result<Stream> {
    let Some(fd) = fd else {
        return Ok(Stream::Closed);
    };
    let mut buffer = [0; 16 * 1024];
    // Bounded, so that a program that never stops printing still meets its deadline.
    for _ in 0..64 {
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) => return Ok(Stream::Closed),
            Ok(count) => into.extend_from_slice(&buffer[..count.min(limit - into.len())]),
            Err(Errno::AGAIN) => return Ok(Stream::Open),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(Stream::Open)
}

fn set_nonblocking(fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    if let Some(fd) = fd {
        let flags = fcntl_getfl(fd)?;
        fcntl_setfl(fd, flags | OFlags::NONBLOCK)?;
    }
    Ok(())
}
