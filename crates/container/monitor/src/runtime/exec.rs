//! Running one more process in a container.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crioxide_monitor_protocol::{
    Event, ExecRequest, ExecStdio, Failure, FailureKind, Reply, RuntimeCommand,
};
use crioxide_sys::reap::Ending;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::clients::ReplyTo;
use crate::container::Phase;
use crate::exit;
use crate::monitor::Monitor;
use crate::runtime::builtin;
use crate::runtime::child::{ExecFiles, Purpose, RuntimeChild, Work, failure};
use crate::runtime::create::{global_args, read_pid};
use crate::streams::stdio::{ChildEnds, null};

/// How long a runtime may still take to start an exec that was given up.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// A process that runs besides the container's first one.
pub(crate) struct Exec {
    pub(crate) container: String,
    pub(crate) name: String,
    pub(crate) pid: i32,
}

impl Monitor {
    /// Starts the runtime for it; the answer follows when the process runs.
    pub(crate) fn exec(
        &mut self,
        request: &ExecRequest,
        descriptors: Vec<OwnedFd>,
        reply: ReplyTo,
    ) -> Result<(), Failure> {
        let taken = self.execs.iter().any(|exec| exec.name == request.exec)
            || self.children.iter().any(|child| matches!(&child.purpose, Purpose::Exec { exec, .. } if *exec == request.exec));
        if taken {
            return Err(Failure::new(
                FailureKind::Exists,
                format!("exec {} exists already", request.exec),
            ));
        }
        if request.exec.is_empty()
            || request.exec.len() > 128
            || request.exec.contains(['/', '\0', '.'])
        {
            return Err(Failure::new(
                FailureKind::Protocol,
                format!("`{}` cannot be the name of an exec", request.exec),
            ));
        }
        let (ends, document) = take_descriptors(&request.stdio, descriptors)?;
        let (runtime, bundle) = self.place_of(request)?;
        let id = request.container.clone();
        let pid_file = bundle.join(format!("exec-{}.pid", request.exec));
        let document_path = format!("/proc/{}/fd/{}", std::process::id(), document.as_raw_fd());
        let console = match &request.stdio {
            ExecStdio::Terminal { console_socket, .. } => Some(console_socket.as_path()),
            ExecStdio::Descriptors { .. } => None,
        };
        let call = || builtin::exec(&runtime, &id, Path::new(&document_path), console);
        let work = match &runtime {
            RuntimeCommand::Builtin { .. } => Work::Call(&call),
            RuntimeCommand::Command { path, .. } => Work::Execute {
                path,
                args: exec_args(&runtime, &id, &document_path, &pid_file, console),
            },
        };
        let files = ExecFiles {
            _document: document,
            pid_file: pid_file.clone(),
        };
        let purpose = Purpose::Exec {
            container: id.clone(),
            builtin: matches!(runtime, RuntimeCommand::Builtin { .. }),
            exec: request.exec.clone(),
            reply,
            files,
        };
        let child = RuntimeChild::start(&work, ends, &self.child_settings, purpose, None)
            .map_err(|error| Failure::from_error(FailureKind::System, &error))?;
        self.children.push(child);
        Ok(())
    }

    /// The runtime that knows the container, and its bundle.
    fn place_of(&mut self, request: &ExecRequest) -> Result<(RuntimeCommand, PathBuf), Failure> {
        if let Some(container) = self.find(&request.container) {
            if let (Phase::Live, Some(runtime)) = (&container.phase, &container.runtime) {
                return Ok((runtime.clone(), container.bundle.clone()));
            }
            let text = match container.runtime {
                None => format!("container {} is run by a shim", request.container),
                Some(_) => format!("container {} does not run", request.container),
            };
            return Err(Failure::new(FailureKind::State, text));
        }
        match &request.foreign {
            Some(foreign) if foreign.bundle.is_absolute() => {
                Ok((foreign.runtime.clone(), foreign.bundle.clone()))
            }
            _ => Err(Failure::new(
                FailureKind::NotFound,
                format!("no container {} in this monitor", request.container),
            )),
        }
    }

    /// The runtime's `exec` ended: the process runs, or has run, or could not.
    pub(crate) fn exec_runtime_ended(&mut self, child: RuntimeChild, ending: Ending) {
        let report = child.report();
        let signal = child.signal_when_started;
        let Purpose::Exec {
            container: id,
            builtin,
            exec,
            reply,
            files,
        } = child.purpose
        else {
            return;
        };
        let started = if ending == Ending::Exited(0) {
            match builtin {
                true => builtin::parse_report(&report)
                    .map(|(pid, _)| pid)
                    .map_err(|text| Failure::new(FailureKind::Runtime, text)),
                false => read_pid(&files.pid_file),
            }
        } else {
            let killed = matches!(ending, Ending::Signaled { signal: 9, .. });
            Err(failure(killed, "exec", &report, ""))
        };
        let _ = std::fs::remove_file(&files.pid_file);
        let pid = match started {
            Ok(pid) => pid,
            Err(failure) => {
                return self
                    .clients
                    .reply(reply, Reply::Failed(failure), &mut self.watcher);
            }
        };
        self.clients
            .reply(reply, Reply::ExecStarted { pid }, &mut self.watcher);
        match self.take_early_ending(pid) {
            Some(early) => {
                let event = Event::ExecExited {
                    container: id,
                    exec,
                    exit: exit::report(early, false),
                };
                self.clients.tell(&event, &mut self.watcher);
            }
            None => {
                self.execs.push(Exec {
                    container: id,
                    name: exec.clone(),
                    pid,
                });
                if let Some(signal) = signal {
                    // It can only have ended by itself.
                    let _ = self.kill_exec(&exec, signal);
                }
            }
        }
    }

    /// Signals the process group of an exec, as soon as it runs.
    pub(crate) fn kill_exec(&mut self, name: &str, signal: i32) -> Result<(), Failure> {
        let not_found =
            || Failure::new(FailureKind::NotFound, format!("no exec {name} is running"));
        let starting = |child: &&mut RuntimeChild| matches!(&child.purpose, Purpose::Exec { exec, .. } if exec == name);
        if let Some(child) = self.children.iter_mut().find(starting) {
            child.signal_when_started = Some(signal);
            child.deadline = Some(Instant::now() + START_PATIENCE);
            return Ok(());
        }
        let exec = self
            .execs
            .iter()
            .find(|exec| exec.name == name)
            .ok_or_else(not_found)?;
        let pid = Pid::from_raw(exec.pid).ok_or_else(not_found)?;
        let signal = Signal::from_named_raw(signal).ok_or_else(|| {
            Failure::new(FailureKind::Protocol, format!("{signal} is not a signal"))
        })?;
        // It leads a group of its own unless it left it; not yet reaped, its number cannot belong to another.
        kill_process_group(pid, signal)
            .or_else(|_| kill_process(pid, signal))
            .map_err(|error| Failure::from_error(FailureKind::System, &std::io::Error::from(error)))
    }
}

/// The standard descriptors in the order of the request, and the process document.
fn take_descriptors(
    stdio: &ExecStdio,
    descriptors: Vec<OwnedFd>,
) -> Result<(ChildEnds, OwnedFd), Failure> {
    let missing = || Failure::new(FailureKind::Protocol, "the request lacks a descriptor");
    let mut descriptors = descriptors.into_iter();
    let document = descriptors.next().ok_or_else(missing)?;
    let mut next = |present: bool| {
        if present {
            descriptors.next().ok_or_else(missing)
        } else {
            null().map_err(|error| Failure::from_error(FailureKind::System, &error))
        }
    };
    let (stdin, stdout, stderr) = match stdio {
        ExecStdio::Descriptors {
            stdin,
            stdout,
            stderr,
        } => (*stdin, *stdout, *stderr),
        ExecStdio::Terminal { stderr, .. } => (false, false, *stderr),
    };
    Ok((
        ChildEnds {
            stdin: next(stdin)?,
            stdout: next(stdout)?,
            stderr: next(stderr)?,
        },
        document,
    ))
}

fn exec_args(
    runtime: &RuntimeCommand,
    id: &str,
    document: &str,
    pid_file: &Path,
    console: Option<&Path>,
) -> Vec<OsString> {
    let mut args = global_args(runtime);
    args.extend(["exec", "--detach", "--process", document, "--pid-file"].map(OsString::from));
    args.push(pid_file.into());
    if let Some(console) = console {
        args.push("--tty".into());
        args.push("--console-socket".into());
        args.push(console.into());
    }
    args.push(id.into());
    args
}
