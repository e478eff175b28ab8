//! ExecSync and log reopening.

use std::time::Duration;

use crioxide_cri_api::v1;

use crate::{
    Engine, EngineError, ErrorKind,
    error::Context as _,
    ports::{ExecOutput, ExecProcess},
};

/// Bytes of output kept per ExecSync, both streams together (as CRI-O).
const OUTPUT_LIMIT: usize = 16 << 20;

/// What a command in a container did.
pub type ExecSyncOutput = v1::ExecSyncResponse;

impl Engine {
    /// Runs a command in a container and waits for its end.
    ///
    /// # Errors
    /// `NotFound` for an unknown container or one without a process, `DeadlineExceeded` when the command was killed
    /// at `timeout`, `Unavailable` when the pod's monitor died before it told of the end, the runtime's report when it could not
    /// be run. A non-zero exit is not an error.
    pub async fn exec_sync(
        &self,
        id: &str,
        command: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecSyncOutput, EngineError> {
        let container = self.find_container(id)?;
        if command.is_empty() {
            return Err(EngineError::refused("exec command cannot be empty"));
        }
        if !container.is_alive() {
            return Err(EngineError::new(
                ErrorKind::NotFound,
                "container is not created or running",
            ));
        }
        let process = exec_process(&container.spec, command, false).ok_or_else(|| {
            EngineError::refused(format!(
                "the spec of container {} has no process",
                container.id
            ))
        })?;
        let request = ExecProcess {
            pod: container.pod.clone(),
            id: container.id.clone(),
            handler: container.handler.clone(),
            dirs: container.dirs.clone(),
            process: serde_json::to_vec(&process)
                .map_err(|error| EngineError::failed("write the process of an exec", &error))?,
            timeout,
            output_limit: OUTPUT_LIMIT,
        };
        let output = self
            .inner
            .ports
            .backend
            .exec(request)
            .await
            .doing(|| format!("failed to exec in container {}", container.id))?;
        match output {
            ExecOutput::Done {
                stdout,
                stderr,
                exit_code,
            } => Ok(ExecSyncOutput {
                stdout,
                stderr,
                exit_code,
            }),
            ExecOutput::TimedOut => Err(EngineError::new(
                ErrorKind::DeadlineExceeded,
                format!(
                    "command in container {} timed out after {} s",
                    container.id,
                    timeout.unwrap_or_default().as_secs()
                ),
            )),
        }
    }

    /// Opens a running container's log file anew, after the kubelet renamed the old one.
    ///
    /// # Errors
    /// When the container is unknown or does not run.
    pub async fn reopen_container_log(&self, id: &str) -> Result<(), EngineError> {
        let container = self
            .find_container(id)
            .map_err(|e| EngineError::refused(e.message()))?;
        if container.cri_state() != v1::ContainerState::ContainerRunning {
            return Err(EngineError::refused("container is not running"));
        }
        let reopened = self
            .inner
            .ports
            .backend
            .reopen_log(
                &container.pod,
                &container.id,
                &container.dirs,
                container.info.log_path.as_ref(),
            )
            .await;
        reopened.doing(|| format!("failed to reopen the log of container {}", container.id))
    }
}

/// The container's own process with other arguments, and with or without a terminal.
pub(super) fn exec_process(
    spec: &oci_spec::runtime::Spec,
    command: &[String],
    terminal: bool,
) -> Option<oci_spec::runtime::Process> {
    let mut process = spec.process().clone()?;
    process.set_args(Some(command.to_vec()));
    process.set_terminal(Some(terminal));
    process.set_console_size(None);
    Some(process)
}
