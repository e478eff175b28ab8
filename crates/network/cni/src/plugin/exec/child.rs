//! One run of a program: feed its input, collect its output, end it at the deadline.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::ExecPlugin;
use crate::plugin::{PluginError, Verb};

/// Results are a few hundred bytes; a plugin that prints more is broken.
const STDOUT_LIMIT: usize = 1024 * 1024;
const STDERR_LIMIT: usize = 64 * 1024;
/// A plugin that is being replaced on disk cannot be started for a moment.
const BUSY_RETRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// What a program left behind.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

/// Kills the program's whole process group when it is still there.
struct Running {
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

/// Runs the plugin's program to its end or to the deadline.
pub(super) fn run(
    plugin: &ExecPlugin,
    environment: &[(&'static str, String)],
    stdin: &[u8],
    verb: Verb,
    deadline: Instant,
) -> Result<Finished, PluginError> {
    let started = Instant::now();
    let mut running = start(plugin, environment, deadline)?;
    let talk = |source: io::Error| PluginError::Talk {
        plugin: plugin.plugin_type.clone(),
        source,
    };
    match exchange(&mut running, stdin, deadline) {
        Ok(Some(finished)) => Ok(finished),
        Ok(None) => Err(PluginError::TimedOut {
            plugin: plugin.plugin_type.clone(),
            verb,
            seconds: deadline.saturating_duration_since(started).as_secs_f64(),
        }),
        Err(error) => Err(talk(error)),
    }
}

fn start(
    plugin: &ExecPlugin,
    environment: &[(&'static str, String)],
    deadline: Instant,
) -> Result<Running, PluginError> {
    let mut tries = 0;
    loop {
        let spawned = Command::new(&plugin.path)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        match spawned {
            Ok(child) => {
                return Ok(Running {
                    child,
                    reaped: false,
                });
            }
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && tries < BUSY_RETRIES
                    && Instant::now() + BUSY_PAUSE < deadline =>
            {
                tries += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            Err(source) => {
                return Err(PluginError::Start {
                    plugin: plugin.plugin_type.clone(),
                    path: plugin.path.clone(),
                    source,
                });
            }
        }
    }
}

/// Moves data until the program has ended; `None` when the deadline came first.
///
/// The end is the program's own, not that of its output: a daemon it left behind may hold the
/// pipes for ever.
fn exchange(
    running: &mut Running,
    stdin: &[u8],
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
        if drain(output.as_ref().map(AsFd::as_fd), &mut stdout, STDOUT_LIMIT)? == Stream::Closed {
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
