//! Monitors and runtimes.

mod bundle;
mod by_handler;
mod conmons;
mod create;
mod exec;
mod filter_agents;
mod homes;
mod inspect;
mod leftovers;
mod monitors;
mod platform;
mod sessions;
mod settings;
mod shims;
mod unattended;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use crioxide_engine::ports::{
    Adoption, AttachSession, Backend, CheckpointProcess, ContainerProcess, CreateProcess,
    ExecOutput, ExecProcess, ExecSession, ExitReport, KillScope, MonitorReport, PodHome, PortError,
    PortResult, ProcessId, RecordDirs, RestoreProcess, Session,
};
use crioxide_monitor_client::{
    Checkpoint, FailureKind, ForeignContainer, RestoreContainer, RuntimeCommand, conmon,
};
use crioxide_names::{ContainerId, PodId};
use crioxide_oci_runtime::{CheckpointRequest, DeleteMode, OciRuntime, RuntimeError};
use tokio::sync::mpsc;

use super::checkpoints;
use crate::{OpenFilesLimit, blocking};

pub(crate) use by_handler::ByHandler;
use filter_agents::FilterAgents;
use homes::Homes;
pub(crate) use monitors::BackendEvent;
use monitors::{Forgotten, Monitors};
pub(crate) use platform::{Runtime, by_command};
pub(crate) use settings::{BackendSettings, HandlerRuntime};
pub(crate) use shims::{ShimHandler, Shims};
use unattended::{Followed, Unattended, Watcher};

/// First and longest pause between two tries to make a monitor forget a deleted container; each is twice the last, so
/// all together take a minute.
const FORGET_PAUSE: Duration = Duration::from_millis(1);
const FORGET_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long processes may take to be restored, if no longer time is configured for creations.
const RESTORE_TIMEOUT_MS: u64 = 240_000;

/// The processes of the node.
pub(crate) struct Processes {
    settings: Arc<BackendSettings>,
    monitors: Monitors,
    followed: Followed,
    homes: Homes,
    agents: FilterAgents,
}

impl Processes {
    /// A backend whose news go to `events`, but for containers of shims whose stdin was closed. `program` is ourselves, to
    /// be run as the spawner.
    pub(crate) fn start(
        settings: BackendSettings,
        program: &Path,
        open_files: OpenFilesLimit,
        events: mpsc::UnboundedSender<BackendEvent>,
        stdin_closed: mpsc::UnboundedSender<ContainerId>,
    ) -> PortResult<Self> {
        let followed = Followed::new(events.clone());
        let agents = FilterAgents::start(settings.filter_agents_dir.clone(), events.clone())?;
        let monitors = Monitors::start(program, open_files, events, stdin_closed)?;
        Ok(Self {
            settings: Arc::new(settings),
            monitors,
            followed,
            agents,
            homes: Homes::default(),
        })
    }

    /// After a failure: the monitor may have died over it, and a runtime that was killed has a cgroup, and perhaps a
    /// process in it, before it has a record by which it could delete them.
    async fn give_back_uncreated(&self, request: &CreateProcess) {
        let name = request.id.to_string();
        let deleted = self
            .with_runtime(&request.handler, move |runtime| {
                runtime.delete(&name, DeleteMode::Force)
            })
            .await;
        let (driver, path) = (self.settings.driver, request.cgroups_path.clone());
        let removed =
            blocking::run(move || crate::pod_cgroup::release_container(driver, &path)).await;
        let files = self.remove_monitor_files(&request.id, &request.dirs).await;
        for error in [deleted, removed, files]
            .into_iter()
            .filter_map(Result::err)
        {
            let reason = crioxide_engine::chain(error.as_ref());
            tracing::warn!("Container {} was not created, and {reason}", request.id);
        }
    }

    /// Removes a container's cgroup if its runtime left it: runc gives up, and calls that a success, when the processes
    /// that it killed take longer than a fraction of a second to leave.
    async fn release_cgroup(&self, id: &ContainerId, dirs: &RecordDirs) -> PortResult<()> {
        let (driver, id, run) = (self.settings.driver, id.clone(), dirs.run.clone());
        blocking::run(move || match bundle::cgroups_path(&run) {
            Ok(path) => crate::pod_cgroup::release_remains(driver, &path.unwrap_or_default()),
            // What nobody can read must not keep the container.
            Err(error) => {
                let reason = crioxide_engine::chain(error.as_ref());
                tracing::warn!("No cgroup of container {id} is known: {reason}");
                Ok(())
            }
        })
        .await
    }

    /// Removes what a monitor leaves of a container beside its bundle.
    async fn remove_monitor_files(&self, id: &ContainerId, dirs: &RecordDirs) -> PortResult<()> {
        let (settings, name, dirs) = (self.settings.clone(), id.to_string(), dirs.clone());
        blocking::run(move || {
            leftovers::remove(&settings.attach_dir.join(&name))?;
            leftovers::remove(&dirs.run.join("attach"))?;
            leftovers::remove_exit_file(&settings.exits_dir, &name)
        })
        .await
    }

    /// Whether the pod's monitor could forget a container. If not, pauses before the next try, or gives up.
    async fn forgotten(
        &self,
        pod: &PodId,
        id: &ContainerId,
        pause: &mut Duration,
    ) -> PortResult<bool> {
        if self.monitors.forget(pod, id).await? == Forgotten::Yes {
            return Ok(true);
        }
        if *pause > FORGET_PAUSE_MAX {
            return Err(format!("the monitor of pod {pod} still holds container {id}").into());
        }
        tokio::time::sleep(*pause).await;
        *pause *= 2;
        Ok(false)
    }

    fn watch(&self, id: &ContainerId, dirs: &RecordDirs, init: ProcessId, watcher: Watcher) {
        self.followed.watch(Unattended {
            watcher,
            id: id.clone(),
            exit_file: self.settings.exits_dir.join(id.as_str()),
            dirs: dirs.clone(),
            init,
        });
    }

    async fn with_runtime(
        &self,
        handler: &str,
        call: impl FnOnce(&dyn OciRuntime) -> Result<(), RuntimeError> + Send + 'static,
    ) -> PortResult<()> {
        let runtime = self.handler(handler)?.runtime.clone();
        blocking::run(move || call(runtime.as_ref())).await
    }
}

/// The start time of a process, as state.json keeps it.
fn process_id(pid: i32) -> ProcessId {
    ProcessId {
        pid,
        start_time: inspect::start_time(pid).unwrap_or_default(),
    }
}

#[async_trait]
impl Backend for Processes {
    async fn start_monitor(&self, pod: &PodId, home: &PodHome) -> PortResult<()> {
        self.homes.remember(pod, home);
        let (has_conmons, _) = self.watching(&home.handler)?;
        if has_conmons {
            return Ok(());
        }
        self.monitor_of(pod).await.map(drop)
    }

    async fn stop_monitor(&self, pod: &PodId) -> PortResult<()> {
        self.monitors.stop(pod).await
    }

    async fn forget_pod(&self, pod: &PodId) -> PortResult<()> {
        self.monitors.stop(pod).await?;
        self.homes.forget(pod);
        Ok(())
    }

    async fn adopt_monitor(&self, pod: &PodId, home: &PodHome) -> PortResult<Adoption> {
        self.homes.remember(pod, home);
        self.monitors
            .adopt(pod, &homes::monitor_socket(&home.dirs))
            .await
    }

    async fn create(&self, request: &CreateProcess) -> PortResult<ContainerProcess> {
        let handler = &*self.handler(&request.handler)?;
        let order = self.order(handler, request);
        let created = match &handler.conmon {
            Some(program) => {
                self.create_by_conmon(handler, program, request, order)
                    .await
            }
            None => self.create_by_monitor(request, order).await,
        };
        if created.is_err() {
            self.give_back_uncreated(request).await;
        }
        created
    }

    async fn restore(&self, request: &RestoreProcess) -> PortResult<ContainerProcess> {
        let container = &request.container;
        let handler = &*self.handler(&container.handler)?;
        if handler.conmon.is_some() {
            return Err("containers under conmon are not restored from checkpoints".into());
        }
        let criu = self.settings.criu.clone();
        let mut order = self.order(handler, container);
        order.timeout_ms = order.timeout_ms.max(RESTORE_TIMEOUT_MS);
        let order = RestoreContainer {
            container: order,
            checkpoint: Checkpoint {
                criu: criu.ok_or("criu is not in $PATH")?,
                images: request.files.images.clone(),
                work: request.files.work.clone(),
            },
        };
        if matches!(handler.command, RuntimeCommand::Command { .. }) {
            let bundle = container.dirs.run.clone();
            blocking::run(move || crioxide_oci_runtime_builtin::prepare_root(&bundle)).await?;
        }
        let monitor = self.monitor_of(&container.pod).await?;
        let restored = monitor.restore(order).await;
        match restored {
            Ok(made) => Ok(self.made(container, &monitor, made)),
            Err(error) => {
                self.give_back_uncreated(container).await;
                let _ = std::fs::remove_file(&container.log_path);
                let reason = checkpoints::reason(&request.files.work, "restore.log");
                let error = crioxide_engine::chain(&error);
                Err(match reason {
                    Some(reason) => format!("{error}: {reason}").into(),
                    None => error.into(),
                })
            }
        }
    }

    async fn start(&self, handler: &str, id: &ContainerId) -> PortResult<()> {
        let id = id.to_string();
        self.with_runtime(handler, move |runtime| runtime.start(&id))
            .await
    }

    async fn kill(
        &self,
        handler: &str,
        id: &ContainerId,
        init: &ProcessId,
        signal: i32,
        scope: KillScope,
    ) -> PortResult<()> {
        let name = id.to_string();
        let scope = match scope {
            KillScope::Init => crioxide_oci_runtime::KillScope::Init,
            KillScope::All => crioxide_oci_runtime::KillScope::All,
        };
        let killed = self
            .with_runtime(handler, move |runtime| runtime.kill(&name, signal, scope))
            .await;
        let Err(error) = killed else {
            return Ok(());
        };
        // A runtime that hangs, or lost its records, is no reason for a container to live on.
        match inspect::signal(init, signal) {
            Ok(()) => {
                let reason = crioxide_engine::chain(error.as_ref());
                tracing::warn!("Container {id} was signalled past its runtime: {reason}");
                Ok(())
            }
            Err(_) => Err(error),
        }
    }

    async fn describe(&self, process: &ProcessId) -> Option<String> {
        let process = process.clone();
        let described = blocking::run(move || Ok::<_, PortError>(inspect::describe(&process)));
        described.await.ok().flatten()
    }

    async fn set_paused(&self, handler: &str, id: &ContainerId, paused: bool) -> PortResult<()> {
        let id = id.to_string();
        self.with_runtime(handler, move |runtime| match paused {
            true => runtime.pause(&id),
            false => runtime.resume(&id),
        })
        .await
    }

    async fn checkpoint(
        &self,
        handler: &str,
        id: &ContainerId,
        request: CheckpointProcess,
    ) -> PortResult<()> {
        let criu = self.settings.criu.clone();
        let wanted = CheckpointRequest {
            criu: criu.ok_or("criu is not in $PATH")?,
            images: request.images,
            work: request.work.clone(),
            timeout: request.timeout,
        };
        let (name, work) = (id.to_string(), request.work);
        let taken = self
            .with_runtime(handler, move |runtime| runtime.checkpoint(&name, &wanted))
            .await;
        taken.map_err(|error| match checkpoints::reason(&work, "dump.log") {
            Some(reason) => format!("{}: {reason}", crioxide_engine::chain(error.as_ref())).into(),
            None => error,
        })
    }

    async fn delete(
        &self,
        pod: &PodId,
        handler: &str,
        id: &ContainerId,
        dirs: &RecordDirs,
    ) -> PortResult<()> {
        let mut pause = FORGET_PAUSE;
        loop {
            let delete = || {
                let name = id.to_string();
                self.with_runtime(handler, move |runtime| {
                    runtime.delete(&name, DeleteMode::Force)
                })
            };
            // youki fails when the processes that it killed take long to leave the cgroup.
            if delete().await.is_err() {
                self.release_cgroup(id, dirs).await?;
                delete().await?;
            }
            // A monitor may still be making the container, for a daemon that was killed: then there was nothing to
            // delete yet. Or it has yet to see the end of what was just killed.
            if self.forgotten(pod, id, &mut pause).await? {
                break;
            }
        }
        let runtime = &self.handler(handler)?.command;
        if matches!(runtime, RuntimeCommand::Command { .. }) {
            self.release_cgroup(id, dirs).await?;
        }
        self.end_conmon(pod, handler, id, dirs).await?;
        self.remove_monitor_files(id, dirs).await
    }

    async fn exec(&self, request: ExecProcess) -> PortResult<ExecOutput> {
        let foreign = ForeignContainer {
            runtime: self.handler(&request.handler)?.command.clone(),
            bundle: request.dirs.run.clone(),
        };
        let monitor = self.monitor_of(&request.pod).await?;
        let output = exec::run(&monitor, &request, &foreign).await;
        let unsent = exec::is_unsent(&output);
        match self.successor(&request.pod, &monitor, unsent).await? {
            Some(successor) => exec::run(&successor, &request, &foreign).await,
            None => output,
        }
    }

    async fn exec_session(&self, request: ExecSession) -> PortResult<Session> {
        let foreign = ForeignContainer {
            runtime: self.handler(&request.handler)?.command.clone(),
            bundle: request.dirs.run.clone(),
        };
        let monitor = self.monitor_of(&request.pod).await?;
        let session = sessions::exec(&monitor, &request, &foreign).await;
        let unsent = exec::is_unsent(&session);
        match self.successor(&request.pod, &monitor, unsent).await? {
            Some(successor) => sessions::exec(&successor, &request, &foreign).await,
            None => session,
        }
    }

    async fn attach_session(&self, request: AttachSession) -> PortResult<Session> {
        sessions::attach(&self.settings.attach_dir, &request)
    }

    async fn reopen_log(
        &self,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
        log_path: &Path,
    ) -> PortResult<()> {
        if let Ok(monitor) = self.monitors.of(pod) {
            match monitor.reopen_log(id.as_str()).await {
                Err(error)
                    if error.failure().map(|failure| failure.kind)
                        == Some(FailureKind::NotFound) => {}
                result => return Ok(result?),
            }
        }
        // Not a container of our monitor's, so one of conmon's.
        Ok(conmon::reopen_log(&dirs.run, log_path).await?)
    }

    async fn hear_held_calls(&self, id: &ContainerId) -> PortResult<PathBuf> {
        self.agents.listen(id)
    }

    async fn ignore_held_calls(&self, id: &ContainerId) -> PortResult<()> {
        self.agents.leave(id)
    }

    async fn update(&self, handler: &str, id: &ContainerId, resources: Vec<u8>) -> PortResult<()> {
        let id = id.to_string();
        let resources = serde_json::from_slice(&resources)?;
        self.with_runtime(handler, move |runtime| runtime.update(&id, &resources))
            .await
    }

    async fn inspect(
        &self,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
        init: &ProcessId,
    ) -> PortResult<MonitorReport> {
        if let Some(report) = self.monitors.report(pod, id).await {
            if matches!(report, MonitorReport::Alive { .. }) {
                self.watch(id, dirs, init.clone(), Watcher::Monitor);
            }
            return Ok(report);
        }
        let exit_file = self.settings.exits_dir.join(id.as_str());
        let watched_dirs = dirs;
        let (owned_id, dirs, process) = (id.clone(), dirs.clone(), init.clone());
        let report = blocking::run(move || {
            inspect::look_with_conmon(&owned_id, &exit_file, &dirs, &process)
        })
        .await?;
        if matches!(report, MonitorReport::Alive { .. }) {
            self.watch(id, watched_dirs, init.clone(), Watcher::Other);
        } else if matches!(report, MonitorReport::Lost)
            && let Some(exit_code) = inspect::unreaped(init)
        {
            return Ok(MonitorReport::Exited(ExitReport {
                id: id.clone(),
                exit_code: Some(exit_code),
                oom_killed: watched_dirs.run.join("oom").exists(),
                finished_at: inspect::now(),
            }));
        }
        Ok(report)
    }
}
