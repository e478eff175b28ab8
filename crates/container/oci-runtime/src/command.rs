//! A runtime driven by its command line: runc, crun and every binary with the same interface.

mod run;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::runtime::{Features, LinuxResources};

use crate::{CheckpointRequest, DeleteMode, KillScope, OciRuntime, RuntimeError, RuntimeState};
use run::{Finished, Invocation};

/// How the runtime is to make cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// Plain directories.
    Cgroupfs,
    /// Scopes asked of systemd (`--systemd-cgroup`).
    Systemd,
}

/// How long a runtime binary may take before it is killed.
#[derive(Debug, Clone, Copy)]
pub struct CommandTimeouts {
    /// For `start`, which runs hooks, and `delete`, which waits for processes to go.
    pub slow: Duration,
    /// For everything else.
    pub quick: Duration,
}

impl Default for CommandTimeouts {
    fn default() -> Self {
        Self {
            slow: Duration::from_secs(240),
            quick: Duration::from_secs(30),
        }
    }
}

/// An OCI runtime binary with its state directory.
#[derive(Debug, Clone)]
pub struct CommandRuntime {
    path: PathBuf,
    root: PathBuf,
    driver: CgroupDriver,
    timeouts: CommandTimeouts,
}

impl CommandRuntime {
    /// `path` is the binary, `root` its state directory (`--root`).
    pub fn new(path: impl Into<PathBuf>, root: impl Into<PathBuf>, driver: CgroupDriver) -> Self {
        Self {
            path: path.into(),
            root: root.into(),
            driver,
            timeouts: CommandTimeouts::default(),
        }
    }

    /// The same runtime with other limits of patience.
    pub fn with_timeouts(mut self, timeouts: CommandTimeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// The binary.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn global_args(&self) -> Vec<OsString> {
        let mut root = OsString::from("--root=");
        root.push(&self.root);
        let mut args = vec![root];
        if self.driver == CgroupDriver::Systemd {
            args.push("--systemd-cgroup".into());
        }
        args
    }

    fn invoke(
        &self,
        operation: &'static str,
        subject: &str,
        args: &[&OsStr],
        stdin: &[u8],
    ) -> Result<Vec<u8>, RuntimeError> {
        let timeout = match operation {
            "start" | "delete" => self.timeouts.slow,
            _ => self.timeouts.quick,
        };
        self.invoke_for(operation, subject, args, stdin, timeout)
    }

    fn invoke_for(
        &self,
        operation: &'static str,
        subject: &str,
        args: &[&OsStr],
        stdin: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, RuntimeError> {
        let mut all = self.global_args();
        all.push(operation.into());
        all.extend(args.iter().map(|arg| arg.to_os_string()));
        let invocation = Invocation {
            path: &self.path,
            args: &all,
            stdin,
            timeout,
        };
        let finished = invocation.run().map_err(|source| RuntimeError::Launch {
            path: self.path.clone(),
            source,
        })?;
        match finished {
            Finished::Ended { status, stdout, .. } if status.success() => Ok(stdout),
            Finished::Ended {
                status,
                stdout,
                stderr,
            } => {
                let said = if stderr.iter().all(u8::is_ascii_whitespace) {
                    stdout
                } else {
                    stderr
                };
                Err(self.failure(operation, subject, status.to_string(), &said))
            }
            Finished::TimedOut => Err(RuntimeError::TimedOut {
                path: self.path.clone(),
                operation,
                subject: subject.into(),
                timeout,
            }),
        }
    }

    fn failure(
        &self,
        operation: &'static str,
        subject: &str,
        status: String,
        said: &[u8],
    ) -> RuntimeError {
        let stderr = shorten(&String::from_utf8_lossy(said));
        if says_no_such_container(&stderr) {
            return RuntimeError::NotFound { id: subject.into() };
        }
        if says_not_running(&stderr) {
            return RuntimeError::NotRunning { id: subject.into() };
        }
        RuntimeError::Failed {
            path: self.path.clone(),
            operation,
            subject: subject.into(),
            status,
            stderr,
        }
    }

    fn simple(&self, operation: &'static str, id: &str) -> Result<(), RuntimeError> {
        self.invoke(operation, id, &[id.as_ref()], &[]).map(drop)
    }

    fn document<T: serde::de::DeserializeOwned>(
        &self,
        operation: &'static str,
        bytes: &[u8],
    ) -> Result<T, RuntimeError> {
        serde_json::from_slice(bytes).map_err(|source| RuntimeError::Answer {
            path: self.path.clone(),
            operation,
            source,
        })
    }
}

impl OciRuntime for CommandRuntime {
    fn start(&self, id: &str) -> Result<(), RuntimeError> {
        self.simple("start", id)
    }

    fn kill(&self, id: &str, signal: i32, scope: KillScope) -> Result<(), RuntimeError> {
        let number = signal.to_string();
        let mut args: Vec<&OsStr> = Vec::with_capacity(3);
        if scope == KillScope::All {
            args.push("--all".as_ref());
        }
        args.push(id.as_ref());
        args.push(number.as_ref());
        self.invoke("kill", id, &args, &[]).map(drop)
    }

    fn delete(&self, id: &str, mode: DeleteMode) -> Result<(), RuntimeError> {
        match mode {
            DeleteMode::Stopped => self.simple("delete", id),
            DeleteMode::Force => {
                match self.invoke("delete", id, &["--force".as_ref(), id.as_ref()], &[]) {
                    // crun reports an unknown container even with --force, runc does not.
                    Err(RuntimeError::NotFound { .. }) => Ok(()),
                    other => other.map(drop),
                }
            }
        }
    }

    fn state(&self, id: &str) -> Result<RuntimeState, RuntimeError> {
        let answer = self.invoke("state", id, &[id.as_ref()], &[])?;
        self.document("state", &answer)
    }

    fn pause(&self, id: &str) -> Result<(), RuntimeError> {
        self.simple("pause", id)
    }

    fn resume(&self, id: &str) -> Result<(), RuntimeError> {
        self.simple("resume", id)
    }

    fn update(&self, id: &str, resources: &LinuxResources) -> Result<(), RuntimeError> {
        let document = serde_json::to_vec(resources).map_err(|source| RuntimeError::Encode {
            id: id.into(),
            source,
        })?;
        self.invoke(
            "update",
            id,
            &["--resources=-".as_ref(), id.as_ref()],
            &document,
        )
        .map(drop)
    }

    fn checkpoint(&self, id: &str, request: &CheckpointRequest) -> Result<(), RuntimeError> {
        let help: [&OsStr; 1] = ["--help".as_ref()];
        if self.invoke("checkpoint", id, &help, &[]).is_err() {
            return Err(RuntimeError::NoCheckpoints);
        }
        let args: [&OsStr; 7] = [
            "--file-locks".as_ref(),
            "--image-path".as_ref(),
            request.images.as_os_str(),
            "--work-path".as_ref(),
            request.work.as_os_str(),
            "--leave-running".as_ref(),
            id.as_ref(),
        ];
        self.invoke_for("checkpoint", id, &args, &[], request.timeout)
            .map(drop)
    }

    fn features(&self) -> Result<Features, RuntimeError> {
        let answer = self.invoke("features", "the runtime", &[], &[])?;
        self.document("features", &answer)
    }

    fn version(&self) -> Result<String, RuntimeError> {
        let answer = self.invoke("--version", "the runtime", &[], &[])?;
        Ok(String::from_utf8_lossy(&answer)
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned())
    }
}

/// The texts of runc ("container does not exist"), crun ("... `x/status`: No such file or directory",
/// "container `x` does not exist") and youki.
fn says_no_such_container(stderr: &str) -> bool {
    let text = stderr.to_ascii_lowercase();
    text.contains("does not exist")
        || text.contains("no such container")
        || (text.contains("/status") && text.contains("no such file or directory"))
}

fn says_not_running(stderr: &str) -> bool {
    let text = stderr.to_ascii_lowercase();
    text.contains("not running")
        || text.contains("already finished")
        || text.contains("no such process")
}

/// Error text goes into logs and answers: the end of it is what names the cause.
fn shorten(text: &str) -> String {
    const LONGEST: usize = 4096;
    let text = text.trim();
    let mut from = text.len().saturating_sub(LONGEST);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_real_runtimes_are_recognised() {
        assert!(says_no_such_container("container does not exist"));
        assert!(says_no_such_container(
            "error opening file `/run/crun/x/status`: No such file or directory"
        ));
        assert!(!says_no_such_container(
            "exec: \"nope\": no such file or directory"
        ));
        assert!(says_not_running("container not running"));
        assert!(says_not_running("kill container: No such process"));
        assert!(!says_not_running("permission denied"));
    }

    #[test]
    fn long_texts_keep_their_end_on_a_character_boundary() {
        let text = format!("{}end", "é".repeat(4000));
        let short = shorten(&text);
        assert!(short.len() <= 4096);
        assert!(short.ends_with("end"));
    }
}
