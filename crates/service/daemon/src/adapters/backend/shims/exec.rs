//! Processes that a shim runs in a container: their input and output go through FIFOs between the shim and us.

use std::{os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use crioxide_engine::ports::{
    ExecOutput, ExecProcess, ExecSession, Interrupted, PortError, PortResult, Session, SessionEnd,
    SessionInput, SessionTerminal, TerminalSize,
};
use crioxide_files::{Existing, FifoEnd, make_fifo, open_fifo};
use crioxide_shim_client::{NewExec, Shim, ShimError};
use tokio::net::unix::pipe;

use super::{
    super::{
        exec::{DRAIN, Output},
        sessions::{PipeInput, PipeOutput},
    },
    SIGKILL,
    tasks::Task,
};

/// How long a shim may take to run a process.
const START: Duration = Duration::from_secs(60);

/// How long a killed process is waited for before it is killed again.
const KILL_PAUSE: Duration = Duration::from_millis(200);

/// What the names of its FIFOs in the bundle begin with; its name at the shim follows.
const FIFO_PREFIX: &str = "exec-";

/// Which ends a process has.
struct Ends {
    stdin: bool,
    terminal: bool,
}

/// Runs a process to its end.
pub(super) async fn run(task: &Arc<Task>, request: ExecProcess) -> PortResult<ExecOutput> {
    let ends = Ends {
        stdin: false,
        terminal: false,
    };
    let limit = request.output_limit;
    let exec_id = crioxide_files::random_suffix();
    let ended = async {
        let (running, files) = Running::start(task, &exec_id, request.process, ends).await?;
        let (stdout, stderr) = (files.stdout, files.stderr);
        let stderr = stderr.ok_or("a process without standard error")?;
        let mut output = Output::new(stdout, stderr, limit);
        let exit_code = tokio::select! {
            exit_code = running.end() => exit_code,
            never = output.collect() => match never {},
        }?;
        let _ = tokio::time::timeout(DRAIN, output.drain()).await;
        let (stdout, stderr) = output.into_parts();
        Ok(ExecOutput::Done {
            stdout,
            stderr,
            exit_code,
        })
    };
    match request.timeout {
        None => ended.await,
        // What is dropped kills its process, which is to be gone when we answer.
        Some(limit) => match tokio::time::timeout(limit, ended).await {
            Ok(output) => output,
            Err(_) => {
                if let Ok(shim) = task.shim().await {
                    let gone = shim.wait(task.id.as_str(), &exec_id);
                    let _ = tokio::time::timeout(DRAIN, gone).await;
                }
                Ok(ExecOutput::TimedOut)
            }
        },
    }
}

/// Runs a process for a client.
pub(super) async fn session(task: &Arc<Task>, request: ExecSession) -> PortResult<Session> {
    let ends = Ends {
        stdin: request.stdin,
        terminal: request.terminal,
    };
    let exec_id = crioxide_files::random_suffix();
    let (running, files) = Running::start(task, &exec_id, request.process, ends).await?;
    let process = running.process.clone();
    let input = files.stdin.map(|stdin| {
        Box::new(Input {
            pipe: PipeInput::new(stdin),
            process: process.clone(),
        }) as Box<dyn SessionInput>
    });
    Ok(Session {
        input,
        output: Box::new(PipeOutput {
            stdout: Some(files.stdout),
            stderr: files.stderr,
        }),
        terminal: request
            .terminal
            .then(|| Box::new(Terminal(Of::Exec(process))) as Box<dyn SessionTerminal>),
        end: SessionEnd::Exit(Box::pin(running.end())),
        detachable: false,
    })
}

/// Our ends of a process's FIFOs.
struct Files {
    stdin: Option<pipe::Sender>,
    stdout: pipe::Receiver,
    stderr: Option<pipe::Receiver>,
}

/// A process as its shim knows it.
#[derive(Debug)]
struct Process {
    shim: Arc<Shim>,
    id: String,
    exec_id: String,
}

/// A process that runs, or is about to. To drop it kills it.
struct Running {
    process: Arc<Process>,
    /// The shim's ends of the outputs, which would read as ended before the shim has opened them.
    held: Vec<OwnedFd>,
    paths: Vec<PathBuf>,
    over: bool,
}

impl Running {
    /// In a task of its own: a client that leaves meanwhile has it ended once it runs, which it could not be before.
    async fn start(
        task: &Arc<Task>,
        exec_id: &str,
        process: Vec<u8>,
        ends: Ends,
    ) -> PortResult<(Self, Files)> {
        let (task, exec_id) = (task.clone(), exec_id.to_owned());
        let started =
            tokio::spawn(async move { Self::begin(&task, &exec_id, process, ends).await });
        let abandoned = |error| format!("the start of a process was abandoned: {error}");
        started.await.map_err(abandoned)?
    }

    async fn begin(
        task: &Arc<Task>,
        exec_id: &str,
        process: Vec<u8>,
        ends: Ends,
    ) -> PortResult<(Self, Files)> {
        let mut running = Self {
            process: Arc::new(Process {
                shim: task.shim().await?,
                id: task.id.to_string(),
                exec_id: exec_id.to_owned(),
            }),
            held: Vec::new(),
            paths: Vec::new(),
            // Nothing to be killed yet.
            over: true,
        };
        let fifo = |name: &str| task.dirs.run.join(format!("{FIFO_PREFIX}{exec_id}-{name}"));
        let files = Files {
            stdin: ends
                .stdin
                .then(|| running.input(fifo("stdin")))
                .transpose()?,
            stdout: running.output(fifo("stdout"))?,
            stderr: (!ends.terminal)
                .then(|| running.output(fifo("stderr")))
                .transpose()?,
        };
        let text = |wanted: bool, name| match wanted {
            true => fifo(name).to_string_lossy().into_owned(),
            false => String::new(),
        };
        let new = NewExec {
            id: task.id.to_string(),
            exec_id: exec_id.to_owned(),
            terminal: ends.terminal,
            stdin: text(ends.stdin, "stdin"),
            stdout: text(true, "stdout"),
            stderr: text(!ends.terminal, "stderr"),
            process,
        };
        running.over = false;
        let shim = running.process.shim.clone();
        shim.exec(new).await.map_err(interrupted)?;
        let started = shim.start(task.id.as_str(), exec_id, START).await;
        started.map_err(interrupted)?;
        Ok((running, files))
    }

    /// Waits for its end; then outputs end with what the shim still has of them.
    async fn end(mut self) -> PortResult<i32> {
        let process = self.process.clone();
        let exit = process.shim.wait(&process.id, &process.exec_id).await;
        let exit = exit.map_err(interrupted)?;
        self.held.clear();
        self.over = true;
        // It waits for the outputs to be read, which is done meanwhile.
        tokio::spawn(async move {
            let deleted = process.shim.delete(&process.id, &process.exec_id).await;
            if let Err(error) = deleted
                && !error.is_not_found()
            {
                tracing::debug!("A process of {} is not forgotten: {error}", process.id);
            }
        });
        Ok(exit.exit_code)
    }

    fn output(&mut self, path: PathBuf) -> PortResult<pipe::Receiver> {
        self.make(&path)?;
        let reader = open_fifo(&path, FifoEnd::Read)?;
        self.held.push(open_fifo(&path, FifoEnd::Write)?);
        Ok(pipe::Receiver::from_owned_fd(reader)?)
    }

    fn input(&mut self, path: PathBuf) -> PortResult<pipe::Sender> {
        self.make(&path)?;
        // Without a reader it could not be opened; the shim opens it when the process is started.
        self.held.push(open_fifo(&path, FifoEnd::Read)?);
        let writer = open_fifo(&path, FifoEnd::Write)?;
        Ok(pipe::Sender::from_owned_fd(writer)?)
    }

    fn make(&mut self, path: &std::path::Path) -> PortResult<()> {
        make_fifo(path, 0o600, Existing::Refused)?;
        self.paths.push(path.to_owned());
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = std::fs::remove_file(path);
        }
        if self.over {
            return;
        }
        let process = self.process.clone();
        tokio::spawn(async move { end(&process.shim, &process.id, &process.exec_id).await });
    }
}

/// Ends processes that a former daemon ran and nobody reads from any more.
pub(super) async fn end_leftovers(task: Arc<Task>) {
    let Ok(entries) = std::fs::read_dir(&task.dirs.run) else {
        return;
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let fifos: Vec<String> = names.filter(|name| name.starts_with(FIFO_PREFIX)).collect();
    // A shim that was about to open one waits for its other end, and does nothing else for that process meanwhile.
    let other_end = |name: &String| open_fifo(&task.dirs.run.join(name), FifoEnd::Both).ok();
    let _held: Vec<OwnedFd> = fifos.iter().filter_map(other_end).collect();
    for name in &fifos {
        let Some(exec_id) = name[FIFO_PREFIX.len()..].strip_suffix("-stdout") else {
            continue;
        };
        tracing::info!(
            "Ending process {exec_id} in container {}: its client is gone",
            task.id
        );
        if let Ok(shim) = task.shim().await {
            end(&shim, task.id.as_str(), exec_id).await;
        }
    }
    for name in &fifos {
        let _ = std::fs::remove_file(task.dirs.run.join(name));
    }
}

/// Ends a process and has the shim forget it.
async fn end(shim: &Shim, id: &str, exec_id: &str) {
    let killed = async {
        // One that the shim is about to start takes no signal yet.
        loop {
            let _ = shim.kill(id, exec_id, SIGKILL, false).await;
            let ended = tokio::time::timeout(KILL_PAUSE, shim.wait(id, exec_id)).await;
            if ended.is_ok() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(START, killed).await;
    let _ = shim.delete(id, exec_id).await;
}

/// The error of an exec whose shim died while it was under way; others stay as they are.
fn interrupted(error: ShimError) -> PortError {
    match error.is_gone() {
        true => Interrupted(error.to_string()).into(),
        false => error.into(),
    }
}

/// What a client types. Its end has to be told to the shim, which holds the FIFO open itself.
struct Input {
    pipe: PipeInput,
    process: Arc<Process>,
}

#[async_trait]
impl SessionInput for Input {
    async fn write(&mut self, bytes: &[u8]) -> PortResult<()> {
        self.pipe.write(bytes).await
    }

    async fn end(&mut self) -> PortResult<()> {
        self.pipe.end().await?;
        let process = &self.process;
        match process
            .shim
            .close_stdin(&process.id, &process.exec_id)
            .await
        {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The terminal of a container or of a process in it.
pub(super) struct Terminal(Of);

enum Of {
    Task(Arc<Task>),
    Exec(Arc<Process>),
}

impl Terminal {
    pub(super) fn of_task(task: Arc<Task>) -> Self {
        Self(Of::Task(task))
    }
}

#[async_trait]
impl SessionTerminal for Terminal {
    async fn resize(&self, size: TerminalSize) -> PortResult<()> {
        let (width, height) = (size.width, size.height);
        Ok(match &self.0 {
            Of::Task(task) => {
                let shim = task.shim().await?;
                shim.resize(task.id.as_str(), "", width, height).await
            }
            Of::Exec(process) => {
                let (id, exec_id) = (&process.id, &process.exec_id);
                process.shim.resize(id, exec_id, width, height).await
            }
        }?)
    }
}
