//! Running processes in containers.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crioxide_monitor_protocol::{
    ExecRequest, ExecStdio, ExitReport, Failure, ForeignContainer, Reply, Request,
};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::oneshot;

use crate::{Monitor, MonitorError};

/// How long a runtime may take to start a process in a container that exists.
const PATIENCE: Duration = Duration::from_secs(120);
const SIGKILL: i32 = 9;

/// The container that a process is to run in.
#[derive(Debug, Clone)]
pub struct ExecTarget<'a> {
    /// Its id.
    pub id: &'a str,
    /// How it is reached in case it is not one of the monitor's own.
    pub foreign: Option<ForeignContainer>,
}

impl<'a> From<&'a str> for ExecTarget<'a> {
    fn from(id: &'a str) -> Self {
        Self { id, foreign: None }
    }
}

impl<'a> From<&'a String> for ExecTarget<'a> {
    fn from(id: &'a String) -> Self {
        id.as_str().into()
    }
}

/// Standard descriptors of a process. An absent one is `/dev/null`. The process writes to them directly, nothing is
/// copied on the way.
#[derive(Debug, Default)]
pub struct ExecDescriptors {
    /// Its input.
    pub stdin: Option<OwnedFd>,
    /// Its output.
    pub stdout: Option<OwnedFd>,
    /// Its error output.
    pub stderr: Option<OwnedFd>,
}

/// A process running in a container. Dropping the handle before [`wait`](Self::wait) has returned kills it.
#[derive(Debug)]
pub struct ExecHandle {
    monitor: Monitor,
    name: String,
    /// Host pid.
    pub pid: i32,
    exit: oneshot::Receiver<ExitReport>,
    ended: bool,
}

impl ExecHandle {
    /// Waits for its end. May be called again after being cancelled, until it has returned once.
    ///
    /// # Errors
    /// The monitor ended first.
    pub async fn wait(&mut self) -> Result<ExitReport, MonitorError> {
        let exit = (&mut self.exit).await.map_err(|_| MonitorError::Gone {
            peer: "monitor",
            request: "exec",
            sent: true,
        })?;
        self.ended = true;
        Ok(exit)
    }

    /// Signals its process group.
    ///
    /// # Errors
    /// It has ended.
    pub async fn kill(&self, signal: i32) -> Result<(), MonitorError> {
        self.monitor.kill_exec(&self.name, signal).await
    }
}

impl Drop for ExecHandle {
    fn drop(&mut self) {
        if !self.ended {
            kill_later(&self.monitor, &self.name);
        }
    }
}

/// Kills an exec that nobody waits for any more. It may have ended by itself.
fn kill_later(monitor: &Monitor, name: &str) {
    let (monitor, name) = (monitor.clone(), name.to_owned());
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move { monitor.kill_exec(&name, SIGKILL).await });
    }
}

/// Forgets an exec that did not come to be, also when its caller gave up; what was started by then is killed.
struct Starting<'a> {
    monitor: &'a Monitor,
    name: &'a str,
    done: bool,
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.monitor.shared.inbox.forget_exec(self.name);
        kill_later(self.monitor, self.name);
    }
}

impl Monitor {
    /// Runs the OCI `process` document in a container.
    ///
    /// # Errors
    /// The process does not run then. A runtime binary's own words are on the given stderr.
    pub async fn exec(
        &self,
        container: impl Into<ExecTarget<'_>>,
        process: &[u8],
        descriptors: ExecDescriptors,
    ) -> Result<ExecHandle, MonitorError> {
        let ExecDescriptors {
            stdin,
            stdout,
            stderr,
        } = descriptors;
        let stdio = ExecStdio::Descriptors {
            stdin: stdin.is_some(),
            stdout: stdout.is_some(),
            stderr: stderr.is_some(),
        };
        let passed: Vec<OwnedFd> = [stdin, stdout, stderr].into_iter().flatten().collect();
        self.start(container, process, stdio, passed, next_name())
            .await
    }

    /// Runs the OCI `process` document (with `terminal` set) on a new pseudo terminal, and returns its master.
    ///
    /// # Errors
    /// The process does not run then.
    pub async fn exec_on_terminal(
        &self,
        container: impl Into<ExecTarget<'_>>,
        process: &[u8],
    ) -> Result<(ExecHandle, OwnedFd), MonitorError> {
        let fail = |step| {
            move |source| MonitorError::Prepare {
                step,
                request: "exec",
                source,
            }
        };
        let name = next_name();
        let socket = self
            .console_socket(&name)
            .map_err(fail("open the directory of the console socket"))?;
        let listener = tokio::net::UnixListener::bind(&socket.path)
            .map_err(fail("make the console socket"))?;
        let (words, said) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(io::Error::from)
            .map_err(fail("make a pipe for the runtime's messages"))?;
        let stdio = ExecStdio::Terminal {
            console_socket: socket.path.clone(),
            stderr: true,
        };
        let (started, master) = {
            let start = self.start(container, process, stdio, vec![said], name);
            let start = async { start.await.map_err(|error| with_words(error, &words)) };
            let master = receive_master(&listener);
            tokio::pin!(start, master);
            tokio::select! {
                // Without a master by the time the process runs there will be none.
                started = &mut start => {
                    let started = started?;
                    let master = tokio::time::timeout(Duration::from_secs(5), master).await;
                    (started, master.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
                }
                master = &mut master => (start.await?, master),
            }
        };
        match master {
            Ok(master) => Ok((started, master)),
            Err(error) => Err(fail("receive the terminal")(error)),
        }
    }

    /// Signals the process group of an exec by its name.
    ///
    /// # Errors
    /// There is no such exec.
    pub async fn kill_exec(&self, name: &str, signal: i32) -> Result<(), MonitorError> {
        self.order(
            "kill_exec",
            Request::KillExec {
                exec: name.into(),
                signal,
            },
        )
        .await
    }

    async fn start(
        &self,
        container: impl Into<ExecTarget<'_>>,
        process: &[u8],
        stdio: ExecStdio,
        passed: Vec<OwnedFd>,
        name: String,
    ) -> Result<ExecHandle, MonitorError> {
        let target = container.into();
        let document = sealed(process).map_err(|source| MonitorError::Prepare {
            step: "keep the process document in memory",
            request: "exec",
            source,
        })?;
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![document.as_fd()];
        descriptors.extend(passed.iter().map(AsFd::as_fd));
        let exit = self.shared.inbox.expect_exec(&name);
        let mut starting = Starting {
            monitor: self,
            name: &name,
            done: false,
        };
        let request = ExecRequest {
            container: target.id.into(),
            exec: name.clone(),
            stdio,
            foreign: target.foreign,
        };
        match self
            .ask("exec", Request::Exec(request), &descriptors, PATIENCE)
            .await
        {
            Ok(Reply::ExecStarted { pid }) => {
                starting.done = true;
                drop(starting);
                Ok(ExecHandle {
                    monitor: self.clone(),
                    name,
                    pid,
                    exit,
                    ended: false,
                })
            }
            Ok(_) => Err(MonitorError::Unexpected { request: "exec" }),
            Err(error) => {
                if error.failure().is_some() {
                    self.shared.inbox.forget_exec(&name);
                    starting.done = true;
                }
                Err(error)
            }
        }
    }
}

/// Adds what a runtime binary said before it failed. It has ended by now, so all of it is in the pipe.
fn with_words(mut error: MonitorError, words: &OwnedFd) -> MonitorError {
    let mut text = [0; 4096];
    if let MonitorError::Failed { failure } = &mut error
        && let Ok(count) = rustix::io::read(words, &mut text)
        && count > 0
    {
        let said = String::from_utf8_lossy(&text[..count]);
        *failure = Failure::new(failure.kind, format!("{failure}: {}", said.trim()));
    }
    error
}

/// A socket beside the monitor's, by a path through our descriptor of the directory: its own name may be too long for a
/// socket's address, and the runtime that connects is another process.
struct ConsoleSocket {
    path: PathBuf,
    _directory: OwnedFd,
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Monitor {
    fn console_socket(&self, name: &str) -> io::Result<ConsoleSocket> {
        let directory = self.socket().parent().ok_or(io::ErrorKind::InvalidInput)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty())?;
        let path = format!(
            "/proc/{}/fd/{}/tty-{name}",
            std::process::id(),
            directory.as_raw_fd()
        );
        Ok(ConsoleSocket {
            path: path.into(),
            _directory: directory,
        })
    }
}

async fn receive_master(listener: &tokio::net::UnixListener) -> io::Result<OwnedFd> {
    let (connection, _) = listener.accept().await?;
    loop {
        connection.readable().await?;
        let mut name = [0; 4096];
        let received = connection.try_io(tokio::io::Interest::READABLE, || {
            crioxide_sys::messages::receive_packet(&connection, &mut name)
        });
        match received {
            Ok(mut packet) => {
                return packet
                    .descriptors
                    .pop()
                    .ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// Unique among the execs that may live under one monitor: daemons may come and go meanwhile.
fn next_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let started = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "{}-{:x}-{}",
        std::process::id(),
        started.as_nanos(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A file in memory that nobody can change any more.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(
        "process",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?);
    file.write_all(bytes)?;
    file.rewind()?;
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL,
    )?;
    Ok(file.into())
}
