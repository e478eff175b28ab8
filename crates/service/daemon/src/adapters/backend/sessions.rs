//! Sessions with processes: the ends that a streaming client is connected to.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use crioxide_engine::ports::{
    AttachSession, ExecSession, OutputStream, PortError, PortResult, Session, SessionEnd,
    SessionInput, SessionOutput, SessionTerminal, TerminalSize,
};
use crioxide_monitor_client::{
    AttachConnection, ExecDescriptors, ExecHandle, ExecTarget, ForeignContainer, Monitor,
    MonitorError,
};
use rustix::{
    fs::{Mode, OFlags},
    pipe::{PipeFlags, pipe_with},
    termios::Winsize,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::pipe,
};

use super::exec::ended_early;

/// Bytes read at once.
const PIECE: usize = 32 << 10;

/// Most of a runtime's own words that are kept.
const WORDS: usize = 4 << 10;

/// Starts a process whose ends are ours.
pub(super) async fn exec(
    monitor: &Monitor,
    request: &ExecSession,
    foreign: &ForeignContainer,
) -> PortResult<Session> {
    let target = ExecTarget {
        id: request.id.as_str(),
        foreign: Some(foreign.clone()),
    };
    if request.terminal {
        return on_terminal(monitor, request, target).await;
    }
    let (stdout, stdout_end) = pipe_from_process()?;
    let (stderr, stderr_end) = pipe_from_process()?;
    let (stdin_end, stdin) = match request.stdin {
        true => pipe_to_process().map(|(theirs, ours)| (Some(theirs), Some(ours)))?,
        false => (None, None),
    };
    let descriptors = ExecDescriptors {
        stdin: stdin_end,
        stdout: Some(stdout_end),
        stderr: Some(stderr_end),
    };
    let started = monitor.exec(target, &request.process, descriptors).await;
    let handle = match started {
        Ok(handle) => handle,
        Err(error @ MonitorError::Gone { .. }) => return Err(ended_early(error)),
        Err(error) => {
            // A runtime binary says here why it could not start the process.
            let mut words = vec![0; WORDS];
            let count = stderr.try_read(&mut words).unwrap_or(0);
            let words = String::from_utf8_lossy(&words[..count]).trim().to_owned();
            let error = crioxide_engine::chain(&error);
            return Err(match words.is_empty() {
                true => error.into(),
                false => format!("{error}: {words}").into(),
            });
        }
    };
    Ok(Session {
        input: stdin.map(|stdin| Box::new(PipeInput::new(stdin)) as Box<dyn SessionInput>),
        output: Box::new(PipeOutput {
            stdout: Some(stdout),
            stderr: Some(stderr),
        }),
        terminal: None,
        end: exit_of(handle),
        detachable: false,
    })
}

async fn on_terminal(
    monitor: &Monitor,
    request: &ExecSession,
    target: ExecTarget<'_>,
) -> PortResult<Session> {
    let started = monitor.exec_on_terminal(target, &request.process).await;
    let (handle, master) = started.map_err(ended_early)?;
    let end = exit_of(handle);
    rustix::io::ioctl_fionbio(&master, true)?;
    let copy = || rustix::io::fcntl_dupfd_cloexec(&master, 3);
    // What tokio has for pipes reads and writes any descriptor. A terminal's input has no end: what is typed says so.
    let input = match request.stdin {
        true => Some(pipe::Sender::from_owned_fd_unchecked(copy()?)?),
        false => None,
    };
    let output = PipeOutput {
        stdout: Some(pipe::Receiver::from_owned_fd_unchecked(copy()?)?),
        stderr: None,
    };
    Ok(Session {
        input: input.map(|input| Box::new(PipeInput::new(input)) as Box<dyn SessionInput>),
        output: Box::new(output),
        terminal: Some(Box::new(TerminalSizes(master))),
        end,
        detachable: false,
    })
}

/// Waits for the process; dropped before its end, kills it.
fn exit_of(mut handle: ExecHandle) -> SessionEnd {
    SessionEnd::Exit(Box::pin(async move { Ok(handle.wait().await?.exit_code) }))
}

/// A pipe that a process may open again by `/dev/stdin` and the like, whoever it runs as.
fn shared_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fchmod(&write, Mode::from_raw_mode(0o666))?;
    Ok((read, write))
}

fn pipe_from_process() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (read, write) = shared_pipe()?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((pipe::Receiver::from_owned_fd(read)?, write))
}

fn pipe_to_process() -> io::Result<(OwnedFd, pipe::Sender)> {
    let (read, write) = shared_pipe()?;
    rustix::io::ioctl_fionbio(&write, true)?;
    Ok((read, pipe::Sender::from_owned_fd(write)?))
}

/// A pipe to a process.
pub(super) struct PipeInput(Option<pipe::Sender>);

impl PipeInput {
    pub(super) fn new(pipe: pipe::Sender) -> Self {
        Self(Some(pipe))
    }
}

#[async_trait]
impl SessionInput for PipeInput {
    async fn write(&mut self, bytes: &[u8]) -> PortResult<()> {
        match &mut self.0 {
            Some(pipe) => Ok(pipe.write_all(bytes).await?),
            None => Err(PortError::from("the input has ended")),
        }
    }

    async fn end(&mut self) -> PortResult<()> {
        self.0 = None;
        Ok(())
    }
}

/// Pipes from a process.
pub(super) struct PipeOutput {
    pub(super) stdout: Option<pipe::Receiver>,
    pub(super) stderr: Option<pipe::Receiver>,
}

#[async_trait]
impl SessionOutput for PipeOutput {
    async fn next(&mut self) -> PortResult<Option<(OutputStream, bytes::Bytes)>> {
        while self.stdout.is_some() || self.stderr.is_some() {
            let (stream, read) = tokio::select! {
                read = read(&mut self.stdout) => (OutputStream::Stdout, read),
                read = read(&mut self.stderr) => (OutputStream::Stderr, read),
            };
            match (read, stream) {
                (Some(bytes), stream) => return Ok(Some((stream, bytes))),
                (None, OutputStream::Stdout) => self.stdout = None,
                (None, OutputStream::Stderr) => self.stderr = None,
            }
        }
        Ok(None)
    }
}

/// The next bytes; `None` at the end, which for a terminal is an error: nobody has the other side open. A pipe that is not there never gives any.
async fn read(pipe: &mut Option<pipe::Receiver>) -> Option<bytes::Bytes> {
    let Some(pipe) = pipe else {
        return std::future::pending().await;
    };
    // Nothing is reserved while nothing is there: most sessions are silent.
    pipe.readable().await.ok()?;
    let mut bytes = Vec::with_capacity(PIECE);
    match pipe.read_buf(&mut bytes).await {
        Ok(count) if count > 0 => {
            bytes.shrink_to(bytes.len().next_power_of_two());
            Some(bytes.into())
        }
        _ => None,
    }
}

/// The master side of a pseudo terminal.
struct TerminalSizes(OwnedFd);

#[async_trait]
impl SessionTerminal for TerminalSizes {
    async fn resize(&self, size: TerminalSize) -> PortResult<()> {
        let size = Winsize {
            ws_row: size.height,
            ws_col: size.width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(&self.0, size)?)
    }
}

/// Attaches to a container, whoever monitors it: by conmon's socket and FIFO.
pub(super) fn attach(attach_dir: &Path, request: &AttachSession) -> PortResult<Session> {
    let path = attach_dir.join(request.id.as_str()).join("attach");
    let connection = AttachConnection::connect(&path).map_err(|error| {
        format!(
            "cannot connect to the attach socket {}: {error}",
            path.display()
        )
    })?;
    let connection = Arc::new(connection);
    let control = request.dirs.run.join("ctl");
    Ok(Session {
        input: request
            .stdin
            .then(|| Box::new(AttachInput(connection.clone())) as Box<dyn SessionInput>),
        output: Box::new(AttachOutput(connection)),
        terminal: request
            .terminal
            .then(|| Box::new(ControlFifo(control)) as Box<dyn SessionTerminal>),
        end: match request.ends_with_input {
            true => SessionEnd::InputOrOutput,
            false => SessionEnd::Output,
        },
        detachable: true,
    })
}

struct AttachInput(Arc<AttachConnection>);

#[async_trait]
impl SessionInput for AttachInput {
    async fn write(&mut self, bytes: &[u8]) -> PortResult<()> {
        Ok(self.0.send(bytes).await?)
    }

    async fn end(&mut self) -> PortResult<()> {
        Ok(self.0.end_input()?)
    }
}

struct AttachOutput(Arc<AttachConnection>);

#[async_trait]
impl SessionOutput for AttachOutput {
    async fn next(&mut self) -> PortResult<Option<(OutputStream, bytes::Bytes)>> {
        let received = match self.0.receive().await {
            // A monitor that ended.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            received => received?,
        };
        Ok(received.map(|(stream, bytes)| {
            let stream = match stream {
                3 => OutputStream::Stderr,
                _ => OutputStream::Stdout,
            };
            (stream, bytes.into())
        }))
    }
}

/// `ctl` in a container's bundle.
struct ControlFifo(PathBuf);

#[async_trait]
impl SessionTerminal for ControlFifo {
    async fn resize(&self, size: TerminalSize) -> PortResult<()> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fifo = rustix::fs::open(&self.0, flags, Mode::empty())?;
        // Shorter than what a pipe takes in one piece.
        let line = format!("1 {} {}\n", size.height, size.width);
        rustix::io::write(&fifo, line.as_bytes())?;
        Ok(())
    }
}
