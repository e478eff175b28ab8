//! Containers and processes in them.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use crioxide_shim_client::messages::{
    CreateTaskRequest, DeleteResponse, ExecProcessRequest, KillRequest, ProcessRequest,
    RuntimeOptions, StateResponse, TaskStatus, Timestamp, UpdateTaskRequest, WaitResponse,
};
use prost::Message as _;
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use crate::now;
use crate::wire::{Refusal, not_found};

/// A process: by container, and exec or nothing.
type Key = (String, String);

#[derive(Debug)]
struct Process {
    pid: i32,
    started: bool,
    stdio: [String; 3],
    /// OCI process of an exec.
    spec: Vec<u8>,
    bundle: PathBuf,
    /// Keeps stdin from ending before it is told to.
    stdin: Option<File>,
}

#[derive(Debug, Default)]
struct State {
    processes: HashMap<Key, Process>,
    /// Exit codes with times, of all children there were.
    exits: HashMap<i32, (u32, Timestamp)>,
    /// Children so far.
    spawned: u64,
}

/// All containers of the shim.
#[derive(Debug)]
pub(crate) struct Tasks {
    program: PathBuf,
    root: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

impl Tasks {
    pub(crate) fn new(program: &Path, root: &Path) -> Self {
        Self {
            program: program.to_owned(),
            root: root.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Notes the ends of all children, for ever.
    pub(crate) fn reap(&self) {
        loop {
            let seen = self.locked().spawned;
            match wait(WaitOptions::empty()) {
                Ok(Some((pid, status))) => {
                    let code = match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => code,
                        (None, signal) => 128 + signal.unwrap_or(0),
                    };
                    let exit = (code.unsigned_abs(), now());
                    self.locked().exits.insert(pid.as_raw_nonzero().get(), exit);
                    self.changed.notify_all();
                }
                // No children: until there are some.
                _ => {
                    let mut state = self.locked();
                    while state.spawned == seen {
                        let woken = self.changed.wait(state);
                        state = woken.unwrap_or_else(PoisonError::into_inner);
                    }
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.locked().processes.is_empty()
    }

    pub(crate) fn create(&self, request: &CreateTaskRequest) -> Result<u32, Refusal> {
        if request.terminal {
            return Err(Refusal(12, "no terminals here".to_owned()));
        }
        let bundle = PathBuf::from(&request.bundle);
        note_request(&bundle, request)?;
        let stdio = [&request.stdin, &request.stdout, &request.stderr].map(Clone::clone);
        let pid_file = bundle.join("shim-pid");
        let command = ["create", "--bundle", &request.bundle, "--pid-file"];
        let pid_text = pid_file.to_string_lossy();
        let arguments = [&command[..], &[&*pid_text, &request.id]].concat();
        let (pid, stdin) = self.run(&arguments, &stdio, &pid_file)?;
        let process = Process {
            pid,
            started: false,
            stdio,
            spec: Vec::new(),
            bundle,
            stdin,
        };
        let key = (request.id.clone(), String::new());
        self.locked().processes.insert(key, process);
        Ok(pid.unsigned_abs())
    }

    pub(crate) fn exec(&self, request: &ExecProcessRequest) -> Result<(), Refusal> {
        let mut state = self.locked();
        let container = (request.id.clone(), String::new());
        let container = state.processes.get(&container);
        let bundle = container
            .ok_or_else(|| not_found(&request.id))?
            .bundle
            .clone();
        let process = Process {
            pid: 0,
            started: false,
            stdio: [&request.stdin, &request.stdout, &request.stderr].map(Clone::clone),
            spec: request.spec.clone().unwrap_or_default().value,
            bundle,
            stdin: None,
        };
        let key = (request.id.clone(), request.exec_id.clone());
        state.processes.insert(key, process);
        Ok(())
    }

    pub(crate) fn start(&self, request: &ProcessRequest) -> Result<u32, Refusal> {
        let key = key(request);
        if request.exec_id.is_empty() {
            self.runtime(&["start", &request.id])?;
        } else {
            let (stdio, spec, bundle) = {
                let state = self.locked();
                let process = state.processes.get(&key).ok_or_else(|| missing(request))?;
                (
                    process.stdio.clone(),
                    process.spec.clone(),
                    process.bundle.clone(),
                )
            };
            let file = bundle.join(format!("shim-exec-{}.json", request.exec_id));
            let pid_file = bundle.join(format!("shim-exec-{}.pid", request.exec_id));
            std::fs::write(&file, spec)?;
            let (file_text, pid_text) = (file.to_string_lossy(), pid_file.to_string_lossy());
            let arguments = [
                "exec",
                "--detach",
                "--process",
                &*file_text,
                "--pid-file",
                &*pid_text,
                &request.id,
            ];
            let (pid, stdin) = self.run(&arguments, &stdio, &pid_file)?;
            if let Some(process) = self.locked().processes.get_mut(&key) {
                (process.pid, process.stdin) = (pid, stdin);
            }
        }
        let mut state = self.locked();
        let process = state
            .processes
            .get_mut(&key)
            .ok_or_else(|| missing(request))?;
        process.started = true;
        Ok(process.pid.unsigned_abs())
    }

    pub(crate) fn state(&self, request: &ProcessRequest) -> Result<StateResponse, Refusal> {
        let state = self.locked();
        let process = state.processes.get(&key(request));
        let process = process.ok_or_else(|| missing(request))?;
        let exit = state.exits.get(&process.pid);
        let status = match (exit, process.started) {
            (Some(_), _) => TaskStatus::Stopped,
            (None, true) => TaskStatus::Running,
            (None, false) => TaskStatus::Created,
        };
        Ok(StateResponse {
            pid: process.pid.unsigned_abs(),
            status: status.into(),
            exit_status: exit.map_or(0, |(code, _)| *code),
            exited_at: exit.map(|(_, at)| *at),
            stdin: process.stdio[0].clone(),
            stdout: process.stdio[1].clone(),
            stderr: process.stdio[2].clone(),
            terminal: false,
        })
    }

    pub(crate) fn wait(&self, request: &ProcessRequest) -> Result<WaitResponse, Refusal> {
        let mut state = self.locked();
        loop {
            let process = state.processes.get(&key(request));
            let pid = process.ok_or_else(|| missing(request))?.pid;
            if let Some((code, at)) = state.exits.get(&pid) {
                return Ok(WaitResponse {
                    exit_status: *code,
                    exited_at: Some(*at),
                });
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn kill(&self, request: &KillRequest) -> Result<(), Refusal> {
        let signal = request.signal.to_string();
        if request.exec_id.is_empty() {
            let all: &[&str] = match request.all {
                true => &["--all"],
                false => &[],
            };
            let arguments = [&["kill"][..], all, &[&request.id, &signal]].concat();
            return self.runtime(&arguments);
        }
        let key = (request.id.clone(), request.exec_id.clone());
        let pid = self.locked().processes.get(&key).map(|process| process.pid);
        let pid = pid
            .and_then(Pid::from_raw)
            .ok_or_else(|| not_found(&request.exec_id))?;
        let signal = Signal::from_named_raw(request.signal.cast_signed()).context("a signal")?;
        Ok(kill_process(pid, signal)?)
    }

    pub(crate) fn delete(&self, request: &ProcessRequest) -> Result<DeleteResponse, Refusal> {
        let state = self.state(request)?;
        if state.status() != TaskStatus::Stopped {
            return Err(Refusal(9, format!("{} still runs", request.id)));
        }
        if request.exec_id.is_empty() {
            self.runtime(&["delete", &request.id])?;
        }
        self.locked().processes.remove(&key(request));
        self.changed.notify_all();
        Ok(DeleteResponse {
            pid: state.pid,
            exit_status: state.exit_status,
            exited_at: state.exited_at,
        })
    }

    pub(crate) fn close_stdin(&self, id: &str, exec_id: &str) {
        let key = (id.to_owned(), exec_id.to_owned());
        if let Some(process) = self.locked().processes.get_mut(&key) {
            process.stdin = None;
        }
    }

    pub(crate) fn update(&self, request: &UpdateTaskRequest) -> Result<(), Refusal> {
        let file = self.root.join(format!("update-{}", request.id));
        std::fs::write(&file, request.resources.clone().unwrap_or_default().value)?;
        let updated = self.runtime(&[
            "update",
            "--resources",
            &file.to_string_lossy(),
            &request.id,
        ]);
        std::fs::remove_file(&file)?;
        updated
    }

    /// Runs the runtime to its end.
    pub(crate) fn runtime(&self, arguments: &[&str]) -> Result<(), Refusal> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        self.spawned();
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut said)?;
        }
        match self.exit_of(child.id().cast_signed()) {
            0 => Ok(()),
            code => Err(Refusal(2, format!("{arguments:?}: code {code}: {said}"))),
        }
    }

    /// Runs the runtime with a process's own descriptors, and returns the process it made.
    fn run(
        &self,
        arguments: &[&str],
        stdio: &[String; 3],
        pid_file: &Path,
    ) -> Result<(i32, Option<File>)> {
        let mut command = self.command(arguments);
        let mut held = None;
        match stdio[0].as_str() {
            "" => drop(command.stdin(Stdio::null())),
            path => {
                let reader = open(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
                rustix::io::ioctl_fionbio(&reader, false)?;
                command.stdin(reader);
                held = Some(open(path, OFlags::WRONLY)?);
            }
        }
        command.stdout(open(&stdio[1], OFlags::WRONLY)?);
        command.stderr(open(&stdio[2], OFlags::WRONLY)?);
        let child = command.spawn()?;
        self.spawned();
        let code = self.exit_of(child.id().cast_signed());
        ensure!(code == 0, "the runtime ended with code {code}");
        let pid = std::fs::read_to_string(pid_file)?.trim().parse()?;
        Ok((pid, held))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("oci")
            .arg("--root")
            .arg(&self.root)
            .args(arguments);
        command
    }

    fn spawned(&self) {
        self.locked().spawned += 1;
        self.changed.notify_all();
    }

    fn exit_of(&self, pid: i32) -> u32 {
        let mut state = self.locked();
        loop {
            if let Some((code, _)) = state.exits.remove(&pid) {
                return code;
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves what was asked for in the bundle, for the test to see.
fn note_request(bundle: &Path, request: &CreateTaskRequest) -> Result<()> {
    let options = request.options.clone().unwrap_or_default();
    let config = RuntimeOptions::decode(options.value.as_slice())?.config_path;
    let mut text = format!("{} {config}\n", options.type_url);
    for mount in &request.rootfs {
        text.push_str(&format!("{} {}\n", mount.kind, mount.options.join(",")));
    }
    Ok(std::fs::write(bundle.join("shim-request"), text)?)
}

fn open(path: &str, flags: OFlags) -> Result<File> {
    let access = flags & OFlags::RWMODE;
    OpenOptions::new()
        .read(access == OFlags::RDONLY)
        .write(access == OFlags::WRONLY)
        .custom_flags((flags - OFlags::RWMODE).bits().cast_signed())
        .open(path)
        .with_context(|| format!("open `{path}`"))
}

fn key(request: &ProcessRequest) -> Key {
    (request.id.clone(), request.exec_id.clone())
}

fn missing(request: &ProcessRequest) -> Refusal {
    not_found(&format!("{} {}", request.id, request.exec_id))
}
