//! The monitor's ends of a container's standard descriptors.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crioxide_files::{Existing, FifoEnd, make_fifo, open_fifo};
use crioxide_monitor_protocol::{KeepStdio, StdinMode};
use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{OptionalActions, OutputModes, Winsize};

use crate::streams::log::Stream;
use crate::watcher::{ContainerKey, Source, Token, Watcher};

/// What a container's process gets as descriptors 0, 1 and 2.
pub(crate) struct ChildEnds {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// An output being read.
pub(crate) struct Output {
    pub(crate) stream: Stream,
    pub(crate) descriptor: OwnedFd,
    pub(crate) token: Option<Token>,
    /// The other end of a FIFO, which would read as ended while nobody else has it open.
    held: Option<OwnedFd>,
}

/// What reading an output gave.
pub(crate) enum Read {
    Bytes(usize),
    Nothing,
    /// Nobody has the terminal open at the moment.
    HungUp,
    End,
}

impl Output {
    fn new(stream: Stream, descriptor: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        Ok(Self {
            stream,
            descriptor,
            token: None,
            held: None,
        })
    }

    /// A FIFO at this path.
    fn of_fifo(stream: Stream, path: &std::path::Path) -> io::Result<Self> {
        let descriptor = open_fifo(path, FifoEnd::Read)?;
        Ok(Self {
            held: Some(open_fifo(path, FifoEnd::Write)?),
            ..Self::new(stream, descriptor)?
        })
    }

    pub(crate) fn watch(&mut self, key: ContainerKey, watcher: &mut Watcher) -> io::Result<()> {
        if self.token.is_none() {
            self.token = Some(watcher.add(&self.descriptor, Source::Output(key, self.stream))?);
        }
        Ok(())
    }

    pub(crate) fn unwatch(&mut self, watcher: &mut Watcher) {
        if let Some(token) = self.token.take() {
            watcher.remove(&self.descriptor, token);
        }
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> Read {
        match rustix::io::read(&self.descriptor, buffer) {
            Ok(0) => Read::End,
            Ok(count) => Read::Bytes(count),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Read::Nothing,
            Err(rustix::io::Errno::IO) => Read::HungUp,
            Err(_) => Read::End,
        }
    }
}

/// The way into a container. Never blocks: what does not fit waits here, and clients wait with it.
pub(crate) struct Stdin {
    descriptor: OwnedFd,
    pub(crate) mode: StdinMode,
    pending: Vec<u8>,
    token: Option<Token>,
    closing: bool,
}

impl Stdin {
    fn new(descriptor: OwnedFd, mode: StdinMode) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        Ok(Self {
            descriptor,
            mode,
            pending: Vec::new(),
            token: None,
            closing: false,
        })
    }

    /// Whether clients have to wait.
    pub(crate) fn is_full(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Passes bytes on. `Err` when nobody reads any more.
    pub(crate) fn write(
        &mut self,
        key: ContainerKey,
        bytes: &[u8],
        watcher: &mut Watcher,
    ) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        self.flush(key, watcher)
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, key: ContainerKey, watcher: &mut Watcher) -> io::Result<()> {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.descriptor, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    if self.token.is_none() {
                        let source = Source::Stdin(key);
                        self.token =
                            Some(watcher.add_for(&self.descriptor, source, EventFlags::OUT)?);
                    }
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.pending = Vec::new();
        self.unwatch(watcher);
        if self.closing {
            Err(io::ErrorKind::BrokenPipe.into())
        } else {
            Ok(())
        }
    }

    /// The input ends once what waits has been written; `true` when that is now.
    pub(crate) fn end_soon(&mut self) -> bool {
        self.closing = true;
        self.pending.is_empty()
    }

    pub(crate) fn unwatch(&mut self, watcher: &mut Watcher) {
        if let Some(token) = self.token.take() {
            watcher.remove(&self.descriptor, token);
        }
    }
}

/// The monitor's side of all three.
pub(crate) struct Stdio {
    pub(crate) outputs: Vec<Output>,
    pub(crate) stdin: Option<Stdin>,
    /// The terminal's master, for its size.
    pub(crate) terminal: Option<OwnedFd>,
    /// Their files, where they are FIFOs.
    fifos: Vec<PathBuf>,
}

impl Stdio {
    /// Pipes.
    pub(crate) fn pipes(stdin: StdinMode) -> io::Result<(Self, ChildEnds)> {
        let (stdout_read, stdout_write) = shared_pipe()?;
        let (stderr_read, stderr_write) = shared_pipe()?;
        let (stdin, stdin_read) = match stdin {
            StdinMode::Closed => (None, null()?),
            mode => {
                let (read, write) = shared_pipe()?;
                (Some(Stdin::new(write, mode)?), read)
            }
        };
        let outputs = vec![
            Output::new(Stream::Stdout, stdout_read)?,
            Output::new(Stream::Stderr, stderr_read)?,
        ];
        let ends = ChildEnds {
            stdin: stdin_read,
            stdout: stdout_write,
            stderr: stderr_write,
        };
        Ok((
            Self {
                outputs,
                stdin,
                terminal: None,
                fifos: Vec::new(),
            },
            ends,
        ))
    }

    /// Nothing yet: the terminal's master comes from the runtime. The runtime's own messages go to a pipe.
    pub(crate) fn terminal() -> io::Result<(Self, ChildEnds)> {
        let (stderr_read, stderr_write) = shared_pipe()?;
        let stdio = Self {
            outputs: vec![Output::new(Stream::Stderr, stderr_read)?],
            stdin: None,
            terminal: None,
            fifos: Vec::new(),
        };
        Ok((
            stdio,
            ChildEnds {
                stdin: null()?,
                stdout: null()?,
                stderr: stderr_write,
            },
        ))
    }

    /// FIFOs, whose other ends a shim opens. Those of a monitor that has died are taken over.
    pub(crate) fn fifos(request: &KeepStdio) -> io::Result<Self> {
        let mut stdio = Self {
            outputs: Vec::new(),
            stdin: None,
            terminal: None,
            fifos: Vec::new(),
        };
        let opened = stdio.open_fifos(request);
        opened.inspect_err(|_| stdio.remove_fifos())?;
        Ok(stdio)
    }

    fn open_fifos(&mut self, request: &KeepStdio) -> io::Result<()> {
        let outputs = [
            (Stream::Stdout, Some(request.stdout_fifo())),
            (Stream::Stderr, request.stderr_fifo()),
        ];
        for (stream, path) in outputs {
            if let Some(path) = path {
                make_fifo(&path, 0o600, Existing::Kept)?;
                self.fifos.push(path.clone());
                self.outputs.push(Output::of_fifo(stream, &path)?);
            }
        }
        if let Some(path) = request.stdin_fifo() {
            make_fifo(&path, 0o600, Existing::Kept)?;
            self.fifos.push(path.clone());
            // Open for both directions, because the shim may not have opened it yet.
            let descriptor = open_fifo(&path, FifoEnd::Both)?;
            self.stdin = Some(Stdin::new(descriptor, request.stdin)?);
        }
        Ok(())
    }

    /// Lets FIFOs end when the shim closes them.
    pub(crate) fn let_end(&mut self) {
        for output in &mut self.outputs {
            output.held = None;
        }
    }

    /// Removes the files of FIFOs.
    pub(crate) fn remove_fifos(&self) {
        for path in &self.fifos {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Uses the terminal of which `master` is the other side.
    pub(crate) fn use_terminal(&mut self, master: OwnedFd, stdin: StdinMode) -> io::Result<()> {
        let mut modes = rustix::termios::tcgetattr(&master)?;
        modes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
        rustix::termios::tcsetattr(&master, OptionalActions::Now, &modes)?;
        let copy = |descriptor: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(descriptor, 3);
        self.terminal = Some(copy(&master)?);
        if stdin != StdinMode::Closed {
            self.stdin = Some(Stdin::new(copy(&master)?, stdin)?);
        }
        self.outputs = vec![Output::new(Stream::Stdout, master)?];
        Ok(())
    }

    pub(crate) fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        let Some(terminal) = &self.terminal else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let size = Winsize {
            ws_row: height,
            ws_col: width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(terminal, size)?)
    }

    /// What the runtime said before it failed.
    pub(crate) fn take_stderr(&self) -> String {
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        for output in self
            .outputs
            .iter()
            .filter(|output| output.stream == Stream::Stderr)
        {
            while let Read::Bytes(count) = output.read(&mut buffer) {
                said.extend_from_slice(&buffer[..count]);
                if said.len() > 64 * 1024 {
                    break;
                }
            }
        }
        String::from_utf8_lossy(&said).trim().to_owned()
    }
}

pub(crate) fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// A pipe that a container's process may open again through `/dev/stdout`, whoever it runs as.
fn shared_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fchmod(&write, Mode::from_raw_mode(0o777))?;
    Ok((read, write))
}
