//! The fake host's monitors and runtimes.

use async_trait::async_trait;
use crioxide_engine::ports::{
    Adoption, AttachSession, Backend, CheckpointProcess, ContainerProcess, CreateProcess,
    ExecOutput, ExecProcess, ExecSession, ExitReport, KillScope, MonitorReport, PodHome,
    PortResult, ProcessId, RecordDirs, RestoreProcess, Session,
};
use crioxide_names::{ContainerId, PodId};
use tokio::time::Instant;

use crate::host::FakeHost;

const SIGKILL: i32 = 9;

/// The end of a process, as its monitor reports it.
pub(crate) fn ended(id: &ContainerId, code: i32) -> ExitReport {
    ExitReport {
        id: id.clone(),
        exit_code: Some(code),
        oom_killed: false,
        finished_at: 1_700_000_000_000_000_000,
    }
}

impl FakeHost {
    /// Ends a process and tells the engine so.
    pub(crate) async fn end(&self, id: &ContainerId, code: i32) {
        if self.alive.lock().unwrap().remove(id.as_str()) {
            let engine = self.engine.get().expect("set before any request");
            engine.container_exited(ended(id, code)).await;
        }
    }

    fn process_name(&self, id: &ContainerId) -> &'static str {
        let records = self.records.lock().unwrap();
        let pod = records
            .get(id.as_str())
            .is_some_and(|record| record.metadata.pod);
        if pod { "infra" } else { "process" }
    }
}

#[async_trait]
impl Backend for FakeHost {
    async fn start_monitor(&self, _: &PodId, _: &PodHome) -> PortResult<()> {
        self.step("start_monitor").await?;
        self.take("monitor");
        Ok(())
    }

    async fn stop_monitor(&self, _: &PodId) -> PortResult<()> {
        self.step("stop_monitor").await?;
        self.give("monitor");
        Ok(())
    }

    async fn forget_pod(&self, _: &PodId) -> PortResult<()> {
        self.step("forget_pod").await?;
        self.give("monitor");
        Ok(())
    }

    async fn adopt_monitor(&self, _: &PodId, _: &PodHome) -> PortResult<Adoption> {
        Ok(match self.held().contains(&"monitor".to_owned()) {
            true => Adoption::Connected,
            false => Adoption::Gone,
        })
    }

    async fn create(&self, request: &CreateProcess) -> PortResult<ContainerProcess> {
        self.step("create").await?;
        self.take(self.process_name(&request.id));
        self.alive.lock().unwrap().insert(request.id.to_string());
        Ok(ContainerProcess {
            init: ProcessId {
                pid: 42,
                start_time: "1".to_owned(),
            },
            monitor: ProcessId::default(),
        })
    }

    async fn restore(&self, request: &RestoreProcess) -> PortResult<ContainerProcess> {
        self.step("restore").await?;
        let id = &request.container.id;
        self.take(self.process_name(id));
        self.alive.lock().unwrap().insert(id.to_string());
        let code = self.exit_in_start.lock().unwrap().take();
        if let Some(code) = code {
            self.end(id, code).await;
        }
        Ok(ContainerProcess {
            init: ProcessId {
                pid: 43,
                start_time: "2".to_owned(),
            },
            monitor: ProcessId::default(),
        })
    }

    async fn start(&self, _: &str, id: &ContainerId) -> PortResult<()> {
        self.step("start").await?;
        let code = self.exit_in_start.lock().unwrap().take();
        if let Some(code) = code {
            self.end(id, code).await;
        }
        Ok(())
    }

    async fn kill(
        &self,
        _: &str,
        id: &ContainerId,
        _: &ProcessId,
        signal: i32,
        _: KillScope,
    ) -> PortResult<()> {
        self.signals.lock().unwrap().push((signal, Instant::now()));
        if signal == SIGKILL && !self.immortal.load(std::sync::atomic::Ordering::Relaxed) {
            self.end(id, 128 + SIGKILL).await;
        }
        Ok(())
    }

    async fn describe(&self, process: &ProcessId) -> Option<String> {
        Some(format!("process {} sleeps for ever", process.pid))
    }

    async fn set_paused(&self, _: &str, _: &ContainerId, paused: bool) -> PortResult<()> {
        self.step(if paused { "pause" } else { "resume" }).await
    }

    async fn checkpoint(&self, _: &str, _: &ContainerId, _: CheckpointProcess) -> PortResult<()> {
        self.step("checkpoint").await
    }

    async fn delete(&self, _: &PodId, _: &str, id: &ContainerId, _: &RecordDirs) -> PortResult<()> {
        self.step("delete").await?;
        self.alive.lock().unwrap().remove(id.as_str());
        self.give(self.process_name(id));
        Ok(())
    }

    async fn exec(&self, _: ExecProcess) -> PortResult<ExecOutput> {
        Ok(ExecOutput::TimedOut)
    }

    async fn exec_session(&self, _: ExecSession) -> PortResult<Session> {
        Err("the fake host streams nothing".into())
    }

    async fn attach_session(&self, _: AttachSession) -> PortResult<Session> {
        Err("the fake host streams nothing".into())
    }

    async fn reopen_log(
        &self,
        _: &PodId,
        _: &ContainerId,
        _: &RecordDirs,
        _: &std::path::Path,
    ) -> PortResult<()> {
        Ok(())
    }

    async fn hear_held_calls(&self, id: &ContainerId) -> PortResult<std::path::PathBuf> {
        self.step("hear_held_calls").await?;
        self.take("agent");
        Ok(std::path::Path::new("/run/agents").join(id.as_str()))
    }

    async fn ignore_held_calls(&self, _: &ContainerId) -> PortResult<()> {
        self.step("ignore_held_calls").await?;
        self.give("agent");
        Ok(())
    }

    async fn update(&self, _: &str, _: &ContainerId, _: Vec<u8>) -> PortResult<()> {
        Ok(())
    }

    async fn inspect(
        &self,
        _: &PodId,
        id: &ContainerId,
        _: &RecordDirs,
        _: &ProcessId,
    ) -> PortResult<MonitorReport> {
        let alive = self.alive.lock().unwrap().contains(id.as_str());
        Ok(if alive {
            MonitorReport::Alive { monitored: true }
        } else {
            MonitorReport::Lost
        })
    }
}
