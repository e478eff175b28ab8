//! Runs one short-lived program with bounded time and bounded output.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use rustix::time::Timespec;

/// More output than this is dropped: the answers we expect are a few KiB.
const OUTPUT_LIMIT: usize = 1 << 20;

/// A program, what it is told, and how long it may take.
pub(super) struct Invocation<'a> {
    pub(super) path: &'a Path,
    pub(super) args: &'a [OsString],
    pub(super) stdin: &'a [u8],
    pub(super) timeout: Duration,
}

/// How the program ended.
pub(super) enum Finished {
    Ended {
        status: ExitStatus,
        stdout: Vec<u8>,
        stderr: Vec<u8>,
    },
    TimedOut,
}

impl Invocation<'_> {
    /// Runs it to its end, or kills its process group when the time is up.
    pub(super) fn run(&self) -> io::Result<Finished> {
        let mut command = Command::new(self.path);
        command
            .args(self.args)
            .stdin(stdin_of(self.stdin)?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A group of its own, so that a kill reaches what the program forked.
        command.process_group(0);
        let mut child = command.spawn()?;
        match self.follow(&mut child) {
            Ok(Some(finished)) => Ok(finished),
            Ok(None) => {
                end(&mut child);
                Ok(Finished::TimedOut)
            }
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    fn follow(&self, child: &mut Child) -> io::Result<Option<Finished>> {
        let deadline = Instant::now() + self.timeout;
        let mut stdout = Output::new(child.stdout.take().map(OwnedFd::from))?;
        let mut stderr = Output::new(child.stderr.take().map(OwnedFd::from))?;
        let pidfd = pidfd_open(pid_of(child), PidfdFlags::empty())?;
        // Only the program's own end counts: something it left behind may hold the pipes open for ever.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut waited = vec![PollFd::new(&pidfd, PollFlags::IN)];
            for fd in [&stdout.fd, &stderr.fd].into_iter().flatten() {
                waited.push(PollFd::new(fd, PollFlags::IN));
            }
            let timeout = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut waited, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ended = !waited[0].revents().is_empty();
            drop(waited);
            stdout.take_available()?;
            stderr.take_available()?;
            if ended {
                let status = child.wait()?;
                stdout.take_available()?;
                stderr.take_available()?;
                return Ok(Some(Finished::Ended {
                    status,
                    stdout: stdout.bytes,
                    stderr: stderr.bytes,
                }));
            }
        }
    }
}

/// A file in memory rather than a pipe: the program may read it late or not at all without blocking anyone.
fn stdin_of(bytes: &[u8]) -> io::Result<Stdio> {
    if bytes.is_empty() {
        return Ok(Stdio::null());
    }
    let fd = rustix::fs::memfd_create("runtime-stdin", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    io::Seek::rewind(&mut file)?;
    Ok(file.into())
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn end(child: &mut Child) {
    // The group may be gone already; the child itself is reaped below in any case.
    let _ = kill_process_group(pid_of(child), Signal::KILL);
    let _ = child.kill();
    let _ = child.wait();
}

/// One output pipe, read without blocking.
struct Output {
    fd: Option<OwnedFd>,
    bytes: Vec<u8>,
}

impl Output {
    fn new(fd: Option<OwnedFd>) -> io::Result<Self> {
        if let Some(fd) = &fd {
            rustix::io::ioctl_fionbio(fd.as_fd(), true)?;
        }
        Ok(Self {
            fd,
            bytes: Vec::new(),
        })
    }

    fn take_available(&mut self) -> io::Result<()> {
        let Some(fd) = self.fd.take() else {
            return Ok(());
        };
        let mut file = std::fs::File::from(fd);
        let mut buffer = [0; 8192];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    let room = OUTPUT_LIMIT.saturating_sub(self.bytes.len());
                    self.bytes.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.fd = Some(file.into());
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}
