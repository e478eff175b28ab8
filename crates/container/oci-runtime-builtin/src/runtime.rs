//! Everything after the creation: start, kill, delete, state, pause, resume, update.

use std::io;
use std::path::PathBuf;

use crioxide_oci_runtime::{
    CheckpointRequest, ContainerStatus, DeleteMode, KillScope, OciRuntime, RuntimeError,
    RuntimeState,
};
use oci_spec::runtime::{Features, Hook, LinuxResources};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::criu::dump;
use crate::hooks;
use crate::process::end;
use crate::record::{ContainerRecord, RecordError, StateDirectory};

/// The built-in runtime, by the directory that holds its containers' state.
#[derive(Debug, Clone)]
pub struct BuiltinRuntime {
    root: PathBuf,
}

impl BuiltinRuntime {
    /// A runtime whose state is in `root`. Touches nothing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The state directory.
    pub fn root(&self) -> &std::path::Path {
        &self.root
    }

    /// The states of all containers, by id. What is damaged is left out.
    ///
    /// # Errors
    /// The state directory cannot be read; one that does not exist holds no containers.
    pub fn list(&self) -> io::Result<Vec<RuntimeState>> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut states: Vec<_> = entries
            .flatten()
            .filter_map(|entry| self.state(entry.file_name().to_str()?).ok())
            .collect();
        states.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(states)
    }

    fn load(&self, id: &str) -> Result<(StateDirectory, ContainerRecord), RuntimeError> {
        let found = StateDirectory::at(&self.root, id).and_then(|directory| {
            let record = directory.load()?;
            Ok((directory, record))
        });
        found.map_err(|error| match error {
            RecordError::NotFound { id } => RuntimeError::NotFound { id },
            other => failed("look up", id)(other),
        })
    }
}

/// Wraps an error of this crate for the port.
fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    operation: &'static str,
    id: &str,
) -> impl FnOnce(E) -> RuntimeError {
    move |error| RuntimeError::Operation {
        operation,
        id: id.to_owned(),
        source: error.into(),
    }
}

impl OciRuntime for BuiltinRuntime {
    fn start(&self, id: &str) -> Result<(), RuntimeError> {
        let (directory, record) = self.load(id)?;
        let status = record.status(&directory);
        if status != ContainerStatus::Created {
            return Err(RuntimeError::WrongState {
                operation: "start",
                id: id.to_owned(),
                status,
            });
        }
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = match rustix::fs::open(directory.fifo(), flags, Mode::empty()) {
            Ok(fifo) => fifo,
            // Nobody reads: the process died since.
            Err(Errno::NXIO) => return Err(RuntimeError::NotRunning { id: id.to_owned() }),
            Err(error) => return Err(failed("start", id)(io::Error::from(error))),
        };
        // Taking the name away is what makes this the one start that counts.
        match rustix::fs::unlink(directory.fifo()) {
            Ok(()) => {}
            Err(Errno::NOENT) => {
                let status = record.status(&directory);
                return Err(RuntimeError::WrongState {
                    operation: "start",
                    id: id.to_owned(),
                    status,
                });
            }
            Err(error) => return Err(failed("start", id)(io::Error::from(error))),
        }
        rustix::io::write(&fifo, b"0")
            .map_err(|errno| failed("start", id)(io::Error::from(errno)))?;
        let after = record
            .hooks
            .as_ref()
            .and_then(|hooks| hooks.poststart().clone())
            .unwrap_or_default();
        for error in run_hooks("poststart", &after, &record, ContainerStatus::Running) {
            tracing::warn!(id, error = %crate::setup_error::chain(&error), "poststart hook failed");
        }
        Ok(())
    }

    fn kill(&self, id: &str, signal: i32, scope: KillScope) -> Result<(), RuntimeError> {
        let (_, record) = self.load(id)?;
        let signal = Signal::from_named_raw(signal)
            .ok_or_else(|| failed("kill", id)(io::Error::from(io::ErrorKind::InvalidInput)))?;
        let cgroup = record.cgroup();
        if signal == Signal::KILL
            && let Some(cgroup) = &cgroup
        {
            cgroup.hurry();
        }
        // On version 1 a frozen process does not die before it is thawed.
        let let_die = || match &cgroup {
            Some(cgroup) if signal == Signal::KILL && cgroup.is_frozen() => {
                cgroup.thaw().map_err(failed("kill", id))
            }
            _ => Ok(()),
        };
        if scope == KillScope::All
            && let Some(cgroup) = &cgroup
        {
            cgroup.kill_all(signal).map_err(failed("kill", id))?;
            return let_die();
        }
        let not_running = || RuntimeError::NotRunning { id: id.to_owned() };
        let pid = record.init().ok_or_else(not_running)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| not_running())?;
        // The number may have been given to another process before it was opened; the start time tells.
        record.init().ok_or_else(not_running)?;
        match pidfd_send_signal(&pidfd, signal) {
            Ok(()) => let_die(),
            Err(Errno::SRCH) => Err(not_running()),
            Err(error) => Err(failed("kill", id)(io::Error::from(error))),
        }
    }

    fn delete(&self, id: &str, mode: DeleteMode) -> Result<(), RuntimeError> {
        let (directory, record) = match self.load(id) {
            Ok(found) => found,
            Err(RuntimeError::NotFound { .. }) if mode == DeleteMode::Force => {
                return self.remove_leftover(id);
            }
            Err(error) => return Err(error),
        };
        let status = record.status(&directory);
        if mode == DeleteMode::Stopped
            && !matches!(status, ContainerStatus::Stopped | ContainerStatus::Created)
        {
            return Err(RuntimeError::WrongState {
                operation: "delete",
                id: id.to_owned(),
                status,
            });
        }
        let mut problems = Vec::new();
        if let Some(pid) = record.init()
            && let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
            && record.init().is_some()
        {
            // A frozen process does not die before it is thawed, which removing the cgroup takes care of.
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            if let Some(cgroup) = record.cgroup() {
                cgroup.hurry();
            }
            if status == ContainerStatus::Paused
                && let Some(Err(error)) = record.cgroup().map(|cgroup| cgroup.thaw())
            {
                problems.push(crate::setup_error::chain(&error));
            }
            if !end::wait(pid, &pidfd) {
                problems.push(format!("process {} does not end", pid.as_raw_nonzero()));
            }
        }
        if let Some(Err(error)) = record.cgroup().map(|cgroup| cgroup.remove()) {
            problems.push(crate::setup_error::chain(&error));
        }
        let after = record
            .hooks
            .as_ref()
            .and_then(|hooks| hooks.poststop().clone())
            .unwrap_or_default();
        for error in run_hooks("poststop", &after, &record, ContainerStatus::Stopped) {
            tracing::warn!(id, error = %crate::setup_error::chain(&error), "poststop hook failed");
        }
        // The record goes last, and stays while something is left that a second delete must find.
        if problems.is_empty() {
            return remove_directory(&directory, id);
        }
        Err(failed("delete", id)(problems.join("; ")))
    }

    fn state(&self, id: &str) -> Result<RuntimeState, RuntimeError> {
        let (directory, record) = self.load(id)?;
        Ok(record.state(record.status(&directory)))
    }

    fn pause(&self, id: &str) -> Result<(), RuntimeError> {
        let (directory, record) = self.load(id)?;
        let status = record.status(&directory);
        if !matches!(status, ContainerStatus::Running | ContainerStatus::Created) {
            return Err(RuntimeError::WrongState {
                operation: "pause",
                id: id.to_owned(),
                status,
            });
        }
        record
            .cgroup()
            .map_or(Ok(()), |cgroup| cgroup.freeze())
            .map_err(failed("pause", id))
    }

    fn resume(&self, id: &str) -> Result<(), RuntimeError> {
        let (directory, record) = self.load(id)?;
        let status = record.status(&directory);
        if status != ContainerStatus::Paused {
            return Err(RuntimeError::WrongState {
                operation: "resume",
                id: id.to_owned(),
                status,
            });
        }
        record
            .cgroup()
            .map_or(Ok(()), |cgroup| cgroup.thaw())
            .map_err(failed("resume", id))
    }

    fn update(&self, id: &str, resources: &LinuxResources) -> Result<(), RuntimeError> {
        let (_, record) = self.load(id)?;
        let Some(cgroup) = record.cgroup() else {
            return Ok(());
        };
        let warnings = cgroup.apply(resources).map_err(failed("update", id))?;
        for warning in warnings {
            tracing::warn!(id, controller = warning.controller, "{}", warning.message);
        }
        Ok(())
    }

    fn checkpoint(&self, id: &str, request: &CheckpointRequest) -> Result<(), RuntimeError> {
        let (directory, record) = self.load(id)?;
        let status = record.status(&directory);
        if !matches!(status, ContainerStatus::Running | ContainerStatus::Paused) {
            return Err(RuntimeError::WrongState {
                operation: "checkpoint",
                id: id.to_owned(),
                status,
            });
        }
        let pid = record
            .init()
            .ok_or_else(|| RuntimeError::NotRunning { id: id.to_owned() })?;
        dump::take(&record, pid, request).map_err(failed("checkpoint", id))
    }

    fn features(&self) -> Result<Features, RuntimeError> {
        Ok(crate::features::features())
    }

    fn version(&self) -> Result<String, RuntimeError> {
        Ok(format!("crioxide oci {}", env!("CARGO_PKG_VERSION")))
    }
}

impl BuiltinRuntime {
    /// What a creation left that was cut off before there was a record.
    fn remove_leftover(&self, id: &str) -> Result<(), RuntimeError> {
        let directory = StateDirectory::at(&self.root, id).map_err(failed("delete", id))?;
        remove_directory(&directory, id)
    }
}

fn remove_directory(directory: &StateDirectory, id: &str) -> Result<(), RuntimeError> {
    match std::fs::remove_dir_all(&directory.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete", id)(error)),
        _ => Ok(()),
    }
}

fn run_hooks(
    phase: &'static str,
    list: &[Hook],
    record: &ContainerRecord,
    status: ContainerStatus,
) -> Vec<hooks::HookError> {
    if list.is_empty() {
        return Vec::new();
    }
    let state = serde_json::to_vec(&record.state(status)).unwrap_or_default();
    hooks::run_regardless(phase, list, &state, &record.bundle)
}
