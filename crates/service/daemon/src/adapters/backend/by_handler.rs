//! Two backends in one: runtimes behind monitors of ours, and shims.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use crioxide_engine::ports::{
    Adoption, AttachSession, Backend, CheckpointProcess, ContainerProcess, CreateProcess,
    ExecOutput, ExecProcess, ExecSession, KillScope, MonitorReport, PodHome, PortResult, ProcessId,
    RecordDirs, RestoreProcess, Session,
};
use crioxide_names::{ContainerId, PodId};

use super::{Processes, Shims};

/// Chooses by the handler. Monitors are started and found again in one way for both.
pub(crate) struct ByHandler {
    /// OCI runtimes.
    pub(crate) processes: Arc<Processes>,
    /// Handlers of the type vm.
    pub(crate) shims: Shims,
}

impl ByHandler {
    fn of(&self, handler: &str) -> &dyn Backend {
        match self.processes.settings.shims.contains_key(handler) {
            true => &self.shims,
            false => &*self.processes,
        }
    }

    fn of_pod(&self, pod: &PodId) -> &dyn Backend {
        match self.processes.homes.of(pod) {
            Some(place) => self.of(&place.home.handler),
            None => &*self.processes,
        }
    }
}

#[async_trait]
impl Backend for ByHandler {
    async fn start_monitor(&self, pod: &PodId, home: &PodHome) -> PortResult<()> {
        self.of(&home.handler).start_monitor(pod, home).await
    }

    async fn stop_monitor(&self, pod: &PodId) -> PortResult<()> {
        self.of_pod(pod).stop_monitor(pod).await
    }

    async fn forget_pod(&self, pod: &PodId) -> PortResult<()> {
        self.of_pod(pod).forget_pod(pod).await
    }

    async fn adopt_monitor(&self, pod: &PodId, home: &PodHome) -> PortResult<Adoption> {
        self.of(&home.handler).adopt_monitor(pod, home).await
    }

    async fn create(&self, request: &CreateProcess) -> PortResult<ContainerProcess> {
        self.of(&request.handler).create(request).await
    }

    async fn restore(&self, request: &RestoreProcess) -> PortResult<ContainerProcess> {
        self.of(&request.container.handler).restore(request).await
    }

    async fn start(&self, handler: &str, id: &ContainerId) -> PortResult<()> {
        self.of(handler).start(handler, id).await
    }

    async fn kill(
        &self,
        handler: &str,
        id: &ContainerId,
        init: &ProcessId,
        signal: i32,
        scope: KillScope,
    ) -> PortResult<()> {
        let backend = self.of(handler);
        backend.kill(handler, id, init, signal, scope).await
    }

    async fn describe(&self, process: &ProcessId) -> Option<String> {
        self.processes.describe(process).await
    }

    async fn set_paused(&self, handler: &str, id: &ContainerId, paused: bool) -> PortResult<()> {
        self.of(handler).set_paused(handler, id, paused).await
    }

    async fn checkpoint(
        &self,
        handler: &str,
        id: &ContainerId,
        request: CheckpointProcess,
    ) -> PortResult<()> {
        self.of(handler).checkpoint(handler, id, request).await
    }

    async fn delete(
        &self,
        pod: &PodId,
        handler: &str,
        id: &ContainerId,
        dirs: &RecordDirs,
    ) -> PortResult<()> {
        self.of(handler).delete(pod, handler, id, dirs).await
    }

    async fn exec(&self, request: ExecProcess) -> PortResult<ExecOutput> {
        self.of(&request.handler).exec(request).await
    }

    async fn exec_session(&self, request: ExecSession) -> PortResult<Session> {
        self.of(&request.handler).exec_session(request).await
    }

    async fn attach_session(&self, request: AttachSession) -> PortResult<Session> {
        match self.shims.has(&request.id) {
            true => self.shims.attach_session(request).await,
            false => self.processes.attach_session(request).await,
        }
    }

    async fn reopen_log(
        &self,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
        log_path: &Path,
    ) -> PortResult<()> {
        self.of_pod(pod).reopen_log(pod, id, dirs, log_path).await
    }

    async fn hear_held_calls(&self, id: &ContainerId) -> PortResult<PathBuf> {
        self.processes.hear_held_calls(id).await
    }

    async fn ignore_held_calls(&self, id: &ContainerId) -> PortResult<()> {
        self.processes.ignore_held_calls(id).await
    }

    async fn update(&self, handler: &str, id: &ContainerId, resources: Vec<u8>) -> PortResult<()> {
        self.of(handler).update(handler, id, resources).await
    }

    async fn inspect(
        &self,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
        init: &ProcessId,
    ) -> PortResult<MonitorReport> {
        self.of_pod(pod).inspect(pod, id, dirs, init).await
    }
}
