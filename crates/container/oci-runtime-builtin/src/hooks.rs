//! OCI hooks: programs of the host that are told the container's state on their stdin.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::{Hook, Spec};

use crate::bundle::Bundle;

/// Longest part of a hook's output that goes into an error.
const OUTPUT_LIMIT: u64 = 16 * 1024;

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It could not be run.
    #[error("run {phase} hook `{}`", path.display())]
    Run {
        /// When it was to run.
        phase: &'static str,
        /// Its program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("{phase} hook `{}` failed: {status}: {output}", path.display())]
    Failed {
        /// When it ran.
        phase: &'static str,
        /// Its program.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The start of what it wrote to stderr.
        output: String,
    },
    /// It ran longer than its own limit and was killed.
    #[error("{phase} hook `{}` did not end within {} s", path.display(), limit.as_secs())]
    TimedOut {
        /// When it ran.
        phase: &'static str,
        /// Its program.
        path: PathBuf,
        /// Its limit.
        limit: Duration,
    },
}

/// Runs hooks one after the other; the first that fails ends it.
pub(crate) fn run_all(
    phase: &'static str,
    hooks: &[Hook],
    state: &[u8],
    cwd: &Path,
) -> Result<(), HookError> {
    hooks
        .iter()
        .try_for_each(|hook| run(phase, hook, state, cwd))
}

/// Runs all hooks whatever they answer, and returns what failed.
pub(crate) fn run_regardless(
    phase: &'static str,
    hooks: &[Hook],
    state: &[u8],
    cwd: &Path,
) -> Vec<HookError> {
    hooks
        .iter()
        .filter_map(|hook| run(phase, hook, state, cwd).err())
        .collect()
}

/// The OCI state document that hooks read.
pub(crate) fn state_document(id: &str, status: &str, pid: i32, bundle: &Bundle) -> Vec<u8> {
    let state = state_value(id, status, pid, &bundle.directory, &bundle.spec);
    state.to_string().into_bytes()
}

/// A container's state as the OCI specification writes it.
pub(crate) fn state_value(
    id: &str,
    status: &str,
    pid: i32,
    bundle: &Path,
    spec: &Spec,
) -> serde_json::Value {
    serde_json::json!({
        "ociVersion": crate::record::OCI_VERSION,
        "id": id,
        "status": status,
        "pid": pid,
        "bundle": bundle,
        "annotations": spec.annotations().clone().unwrap_or_default(),
    })
}

fn run(phase: &'static str, hook: &Hook, state: &[u8], cwd: &Path) -> Result<(), HookError> {
    let failed = |source| HookError::Run {
        phase,
        path: hook.path().clone(),
        source,
    };
    // A file and not a pipe: a hook that writes much, or leaves a child behind, blocks nobody.
    let log = rustix::fs::memfd_create("hook", rustix::fs::MemfdFlags::CLOEXEC);
    let mut log = File::from(log.map_err(|errno| failed(errno.into()))?);
    let mut command = Command::new(hook.path());
    let mut arguments = hook.args().iter().flatten();
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).env_clear().current_dir(cwd);
    command.envs(
        hook.env()
            .iter()
            .flatten()
            .filter_map(|pair| pair.split_once('=')),
    );
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log.try_clone().map_err(failed)?);
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its input.
        let _ = stdin.write_all(state);
    }
    let status = match hook.timeout().filter(|seconds| *seconds > 0) {
        None => Some(child.wait()),
        Some(seconds) => {
            let limit = Duration::from_secs(seconds.unsigned_abs());
            wait_until(&mut child, Instant::now() + limit).transpose()
        }
    };
    let Some(status) = status else {
        let limit = Duration::from_secs(hook.timeout().unwrap_or_default().unsigned_abs());
        return Err(HookError::TimedOut {
            phase,
            path: hook.path().clone(),
            limit,
        });
    };
    let status = status.map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    Err(HookError::Failed {
        phase,
        path: hook.path().clone(),
        status,
        output: start_of(&mut log),
    })
}

/// The start of what was written, for an error text: what cannot be read is left out.
fn start_of(log: &mut File) -> String {
    let mut bytes = Vec::new();
    if log.rewind().is_ok() {
        let _ = log.take(OUTPUT_LIMIT).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// Waits for the end; kills and reaps the child when the time is over.
fn wait_until(child: &mut Child, end: Instant) -> io::Result<Option<ExitStatus>> {
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    let left = end.saturating_duration_since(Instant::now());
    let timeout = rustix::event::Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: left.subsec_nanos().into(),
    };
    let mut polled = [rustix::event::PollFd::new(
        &pidfd,
        rustix::event::PollFlags::IN,
    )];
    if rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&timeout)))? == 0 {
        child.kill()?;
        child.wait()?;
        return Ok(None);
    }
    child.wait().map(Some)
}
