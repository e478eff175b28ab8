//! Running a process in a container to its end, with bounded output.

use std::{os::fd::OwnedFd, time::Duration};

use crioxide_engine::ports::{ExecOutput, ExecProcess, Interrupted, PortError, PortResult};
use crioxide_monitor_client::{
    ExecDescriptors, ExecTarget, ForeignContainer, Monitor, MonitorError,
};
use tokio::{io::AsyncReadExt as _, net::unix::pipe, time::Instant};

const SIGKILL: i32 = 9;
/// How long output may take to end after the process did: something it left behind may hold the pipes.
pub(super) const DRAIN: Duration = Duration::from_secs(2);

/// Runs the process. The pipes go from the process straight to us; what exceeds the limit is read and dropped.
pub(super) async fn run(
    monitor: &Monitor,
    request: &ExecProcess,
    foreign: &ForeignContainer,
) -> PortResult<ExecOutput> {
    let (stdout_reader, stdout) = pipe_pair()?;
    let (stderr_reader, stderr) = pipe_pair()?;
    let descriptors = ExecDescriptors {
        stdin: None,
        stdout: Some(stdout),
        stderr: Some(stderr),
    };
    let target = ExecTarget {
        id: request.id.as_str(),
        foreign: Some(foreign.clone()),
    };
    let since = Instant::now();
    let started = monitor.exec(target, &request.process, descriptors);
    let started = match request.timeout {
        None => started.await,
        // A monitor that stands still must not hold a probe up. What it starts later it ends at once.
        Some(limit) => match tokio::time::timeout(limit, started).await {
            Ok(started) => started,
            Err(_) => return Ok(ExecOutput::TimedOut),
        },
    };
    let mut handle = match started {
        Ok(handle) => handle,
        Err(error) => {
            return Err(
                failed_start(error, stdout_reader, stderr_reader, request.output_limit).await,
            );
        }
    };
    let mut output = Output::new(stdout_reader, stderr_reader, request.output_limit);
    let ended = async {
        // Output first: a process that fills its pipe ends only when somebody reads.
        let exit = tokio::select! {
            exit = handle.wait() => exit,
            never = output.collect() => match never {},
        };
        let exit = exit.map_err(ended_early)?;
        let _ = tokio::time::timeout(DRAIN, output.drain()).await;
        Ok::<_, PortError>(exit)
    };
    let exit = match request.timeout {
        None => ended.await,
        Some(limit) => match tokio::time::timeout_at(since + limit, ended).await {
            Ok(exit) => exit,
            Err(_) => {
                // Dropping the handle would do it as well; here the process is known to be gone when we answer.
                let _ = handle.kill(SIGKILL).await;
                let _ = tokio::time::timeout(DRAIN, handle.wait()).await;
                return Ok(ExecOutput::TimedOut);
            }
        },
    }?;
    let (stdout, stderr) = output.into_parts();
    Ok(ExecOutput::Done {
        stdout,
        stderr,
        exit_code: exit.exit_code,
    })
}

pub(super) fn pipe_pair() -> PortResult<(pipe::Receiver, OwnedFd)> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((pipe::Receiver::from_owned_fd(reader)?, writer))
}

/// Whether an exec was not begun because its monitor had ended before it heard of it.
pub(super) fn is_unsent<T>(result: &PortResult<T>) -> bool {
    let error = result.as_ref().err();
    error
        .and_then(|error| error.downcast_ref::<MonitorError>())
        .is_some_and(MonitorError::is_unsent)
}

/// The error of an exec whose monitor ended while it was under way; others stay as they are.
pub(super) fn ended_early(error: MonitorError) -> PortError {
    match error {
        MonitorError::Gone { sent: true, .. } => Interrupted(error.to_string()).into(),
        _ => error.into(),
    }
}

/// A runtime binary says on its stderr why it could not start the process.
async fn failed_start(
    error: MonitorError,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
    limit: usize,
) -> PortError {
    if matches!(error, MonitorError::Gone { .. }) {
        return ended_early(error);
    }
    let mut output = Output::new(stdout, stderr, limit);
    let _ = tokio::time::timeout(DRAIN, output.drain()).await;
    let (stdout, stderr) = output.into_parts();
    format!(
        "command error: {}, stdout: {}, stderr: {}, exit code -1",
        crioxide_engine::chain(&error),
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    )
    .into()
}

/// What has been read so far from both pipes.
pub(super) struct Output {
    stdout: Stream,
    stderr: Stream,
    left: usize,
}

struct Stream {
    pipe: Option<pipe::Receiver>,
    bytes: Vec<u8>,
}

impl Output {
    pub(super) fn new(stdout: pipe::Receiver, stderr: pipe::Receiver, limit: usize) -> Self {
        let stream = |pipe| Stream {
            pipe: Some(pipe),
            bytes: Vec::new(),
        };
        Self {
            stdout: stream(stdout),
            stderr: stream(stderr),
            left: limit,
        }
    }

    /// Reads until both pipes have ended.
    pub(super) async fn drain(&mut self) {
        while self.stdout.pipe.is_some() || self.stderr.pipe.is_some() {
            let (from_stdout, chunk) = tokio::select! {
                chunk = self.stdout.read(), if self.stdout.pipe.is_some() => (true, chunk),
                chunk = self.stderr.read(), if self.stderr.pipe.is_some() => (false, chunk),
            };
            let kept = chunk.len().min(self.left);
            self.left -= kept;
            let stream = if from_stdout {
                &mut self.stdout
            } else {
                &mut self.stderr
            };
            stream.bytes.extend_from_slice(&chunk[..kept]);
        }
    }

    /// Reads for ever.
    pub(super) async fn collect(&mut self) -> std::convert::Infallible {
        self.drain().await;
        std::future::pending().await
    }

    pub(super) fn into_parts(self) -> (Vec<u8>, Vec<u8>) {
        (self.stdout.bytes, self.stderr.bytes)
    }
}

impl Stream {
    /// The next chunk; an ended or broken pipe is closed.
    async fn read(&mut self) -> Vec<u8> {
        let mut chunk = Vec::with_capacity(16 << 10);
        if let Some(pipe) = &mut self.pipe
            && !matches!(pipe.read_buf(&mut chunk).await, Ok(count) if count > 0)
        {
            self.pipe = None;
        }
        chunk
    }
}
