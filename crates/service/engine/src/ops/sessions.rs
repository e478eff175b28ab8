//! Exec, Attach and PortForward: what is behind the streaming server.

use crioxide_cri_api::v1;

use super::exec::exec_process;
use crate::{
    Engine, EngineError, ErrorKind,
    container::Container,
    error::Context as _,
    ports::{AttachSession, ExecSession, PortConnection, Session},
};

fn alive(container: &Container) -> Result<(), EngineError> {
    if container.is_alive() {
        return Ok(());
    }
    Err(EngineError::new(
        ErrorKind::NotFound,
        "container is not created or running",
    ))
}

impl Engine {
    /// Runs a command in a container for a client that streams. It is killed when the session is dropped.
    ///
    /// # Errors
    /// `NotFound` for an unknown container or one without a process; the runtime's report when the command cannot be
    /// run.
    pub async fn exec_session(&self, request: &v1::ExecRequest) -> Result<Session, EngineError> {
        let container = self.find_container(&request.container_id)?;
        if request.cmd.is_empty() {
            return Err(EngineError::refused("exec command cannot be empty"));
        }
        alive(&container)?;
        let process =
            exec_process(&container.spec, &request.cmd, request.tty).ok_or_else(|| {
                EngineError::refused(format!(
                    "the spec of container {} has no process",
                    container.id
                ))
            })?;
        let session = ExecSession {
            pod: container.pod.clone(),
            id: container.id.clone(),
            handler: container.handler.clone(),
            dirs: container.dirs.clone(),
            process: serde_json::to_vec(&process)
                .map_err(|error| EngineError::failed("write the process of an exec", &error))?,
            terminal: request.tty,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        self.inner
            .ports
            .backend
            .exec_session(session)
            .await
            .doing(|| format!("failed to exec in container {}", container.id))
    }

    /// Attaches to a container's own process.
    ///
    /// # Errors
    /// `NotFound` for an unknown container or one without a process.
    pub async fn attach_session(
        &self,
        request: &v1::AttachRequest,
    ) -> Result<Session, EngineError> {
        let container = self.find_container(&request.container_id)?;
        alive(&container)?;
        let process = container.spec.process().as_ref();
        let terminal = process.is_some_and(|process| process.terminal().unwrap_or(false));
        let session = AttachSession {
            id: container.id.clone(),
            dirs: container.dirs.clone(),
            terminal,
            stdin: request.stdin,
            // The container's input stays open for others: nothing of the client's is waited for.
            ends_with_input: container.info.stdin && !container.info.stdin_once && !request.tty,
        };
        self.inner
            .ports
            .backend
            .attach_session(session)
            .await
            .doing(|| format!("failed to attach to container {}", container.id))
    }

    /// Connects to a port of a pod.
    ///
    /// # Errors
    /// `NotFound` for an unknown pod; it does not run, or nobody listens.
    pub async fn connect_port(
        &self,
        pod: &str,
        port: u16,
    ) -> Result<Box<dyn PortConnection>, EngineError> {
        let pod = self.find_pod(pod)?;
        if pod.is_stopped() {
            return Err(EngineError::refused(format!(
                "sandbox {} is not running",
                pod.id
            )));
        }
        let netns = pod.namespaces.net.as_ref().ok_or_else(|| {
            EngineError::refused(format!(
                "network namespace path of sandbox {} is empty",
                pod.id
            ))
        })?;
        self.inner
            .ports
            .network
            .connect(netns, port)
            .await
            .doing(|| {
                format!(
                    "failed to connect to localhost:{port} inside namespace {}",
                    netns.display()
                )
            })
    }
}
