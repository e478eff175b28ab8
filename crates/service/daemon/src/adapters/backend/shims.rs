//! Containers of shims: kata's virtual machines, and whatever else speaks containerd's shim v2.
//!
//! The shim makes and watches a pod's containers. Their input, output, logs and exit records are with the pod's monitor,
//! as those of all others; what the shim tells of their ends is handed on to it.

mod adopt;
mod events;
mod exec;
mod follow;
mod link;
mod log;
mod program;
mod remove;
mod tasks;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use crioxide_cgroups::Driver;
use crioxide_engine::ports::{
    Adoption, AttachSession, Backend, CheckpointProcess, ContainerProcess, CreateProcess,
    ExecOutput, ExecProcess, ExecSession, KillScope, MonitorReport, PodHome, PortResult, ProcessId,
    RecordDirs, RestoreProcess, Session,
};
use crioxide_monitor_client::{KeepStdio, StdioMode};
use crioxide_names::{ContainerId, PodId};
use crioxide_shim_client::{NewTask, metrics::Metrics};
use tokio::sync::mpsc;

use super::{BackendEvent, Processes, inspect, process_id};
use tasks::{Task, Tasks};

/// Keeps ids of ours apart from those of others in shims that serve several; CRI-O's.
const NAMESPACE: &str = "default";

const SIGKILL: i32 = 9;

/// How the shim of a handler is reached.
#[derive(Debug, Clone)]
pub(crate) struct ShimHandler {
    /// The program.
    pub(crate) path: PathBuf,
    /// Its configuration file.
    pub(crate) config_path: Option<PathBuf>,
    /// Guests pull images themselves.
    pub(crate) pull_image: bool,
    /// `monitor_env`.
    pub(crate) env: Vec<String>,
    /// Longest a create may take.
    pub(crate) create_timeout: Duration,
    /// Sync logs when a container ends.
    pub(crate) sync_log: bool,
    /// `monitor_cgroup`.
    pub(crate) monitor_cgroup: String,
    /// Shims are to log more.
    pub(crate) debug: bool,
}

/// The shims of the node.
#[derive(Clone)]
pub(crate) struct Shims(Arc<Inner>);

struct Inner {
    handlers: BTreeMap<String, ShimHandler>,
    processes: Arc<Processes>,
    /// Ourselves, for shims that tell events by running us.
    publisher: PathBuf,
    /// Where shims tell events.
    event_socket: PathBuf,
    /// Shims of containerd 2.3 and later, as far as they are known.
    by_parameters: Mutex<BTreeSet<PathBuf>>,
    driver: Driver,
    tasks: Tasks,
    events: mpsc::UnboundedSender<BackendEvent>,
}

impl Shims {
    /// A backend for these handlers. `stdin_closed` are containers into which nobody will type any more.
    pub(crate) fn start(
        handlers: BTreeMap<String, ShimHandler>,
        processes: Arc<Processes>,
        publisher: PathBuf,
        events: mpsc::UnboundedSender<BackendEvent>,
        stdin_closed: mpsc::UnboundedReceiver<ContainerId>,
    ) -> Self {
        let driver = processes.settings.driver;
        let event_socket = events::socket(&processes.settings.exits_dir);
        let inner = Arc::new(Inner {
            handlers,
            processes,
            publisher,
            event_socket,
            by_parameters: Mutex::default(),
            driver,
            tasks: Tasks::default(),
            events,
        });
        tokio::spawn(follow::close_stdin(Arc::downgrade(&inner), stdin_closed));
        // Without it an end for lack of memory inside of a guest may look like any other.
        if let Err(error) = events::start(Arc::downgrade(&inner), &inner.event_socket) {
            tracing::warn!("Shims cannot tell events: {error}");
        }
        Self(inner)
    }

    /// What a container uses, as its shim tells; `None` when it has no shim, or that does not answer in time.
    pub(crate) async fn metrics(&self, id: &str, patience: Duration) -> Option<Metrics> {
        let task = self.0.tasks.of(&ContainerId::parse(id).ok()?)?;
        let asked = async { task.shim().await.ok()?.stats(id, patience).await.ok()? };
        tokio::time::timeout(patience, asked).await.ok()?
    }

    /// Whether a container is a shim's.
    pub(super) fn has(&self, id: &ContainerId) -> bool {
        self.0.tasks.of(id).is_some()
    }
}

impl Inner {
    fn handler(&self, name: &str) -> PortResult<&ShimHandler> {
        let handler = self.handlers.get(name);
        Ok(handler.ok_or_else(|| format!("runtime handler {name} is not configured"))?)
    }

    fn task(&self, id: &ContainerId) -> PortResult<Arc<Task>> {
        let task = self.tasks.of(id);
        Ok(task.ok_or_else(|| format!("no shim of container {id} is known"))?)
    }

    async fn create(self: &Arc<Self>, request: &CreateProcess) -> PortResult<ContainerProcess> {
        let handler = self.handler(&request.handler)?;
        let monitor = self.processes.monitor_of(&request.pod).await?;
        let keep = self.processes.kept(request, handler.sync_log);
        adopt::note_kept(&keep)?;
        monitor.keep_stdio(keep.clone()).await?;
        let log = log::open(&request.dirs.run, &request.pod)?;
        let link = self.link(handler, &request.pod, &request.id, &request.dirs);
        let link = link.await?;
        let task = Arc::new(Task::new(
            request.pod.clone(),
            request.id.clone(),
            request.dirs.clone(),
            link,
        ));
        // Known from here on, so that a delete finds the way to it.
        self.tasks.insert(task.clone());
        let shim = task.shim().await?;
        let pid = shim.create(new_task(handler, request, &keep)?).await?;
        drop(log);
        let noted = task
            .link
            .note_process(request.id.as_str(), &request.dirs.run);
        noted.await?;
        monitor.made(request.id.as_str(), pid).await?;
        let init = process_id(pid);
        task.set_init(init.clone());
        self.follow(&task);
        Ok(ContainerProcess {
            init,
            monitor: process_id(monitor.pid()),
        })
    }
}

/// What the shim is told of a container.
fn new_task(
    handler: &ShimHandler,
    request: &CreateProcess,
    keep: &KeepStdio,
) -> PortResult<NewTask> {
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    let rootfs = match handler.pull_image {
        true => vec![program::guest_pull(&request.dirs.run)?],
        false => Vec::new(),
    };
    Ok(NewTask {
        id: request.id.to_string(),
        bundle: text(request.dirs.run.clone()),
        rootfs,
        terminal: keep.stdio == StdioMode::Terminal,
        stdin: keep.stdin_fifo().map(text).unwrap_or_default(),
        stdout: text(keep.stdout_fifo()),
        stderr: keep.stderr_fifo().map(text).unwrap_or_default(),
        config_path: handler.config_path.clone().map(text),
        timeout: handler.create_timeout,
    })
}

#[async_trait]
impl Backend for Shims {
    async fn start_monitor(&self, pod: &PodId, home: &PodHome) -> PortResult<()> {
        self.0.processes.start_monitor(pod, home).await
    }

    async fn stop_monitor(&self, pod: &PodId) -> PortResult<()> {
        self.0.processes.stop_monitor(pod).await
    }

    async fn forget_pod(&self, pod: &PodId) -> PortResult<()> {
        self.0.processes.forget_pod(pod).await
    }

    async fn adopt_monitor(&self, pod: &PodId, home: &PodHome) -> PortResult<Adoption> {
        self.0.processes.adopt_monitor(pod, home).await
    }

    async fn create(&self, request: &CreateProcess) -> PortResult<ContainerProcess> {
        let created = self.0.create(request).await;
        if created.is_err() {
            let deleted = self
                .0
                .delete(&request.pod, &request.handler, &request.id, &request.dirs);
            if let Err(error) = deleted.await {
                let reason = crioxide_engine::chain(error.as_ref());
                tracing::warn!("Container {} was not created, and {reason}", request.id);
            }
            // As CRI-O: a container that never was leaves no log.
            let _ = std::fs::remove_file(&request.log_path);
        }
        created
    }

    async fn restore(&self, _request: &RestoreProcess) -> PortResult<ContainerProcess> {
        Err("containers of a shim are not restored from checkpoints".into())
    }

    async fn start(&self, handler: &str, id: &ContainerId) -> PortResult<()> {
        let timeout = self.0.handler(handler)?.create_timeout;
        let task = self.0.task(id)?;
        task.shim().await?.start(id.as_str(), "", timeout).await?;
        Ok(())
    }

    async fn kill(
        &self,
        _handler: &str,
        id: &ContainerId,
        init: &ProcessId,
        signal: i32,
        scope: KillScope,
    ) -> PortResult<()> {
        let task = self.0.task(id)?;
        let all = scope == KillScope::All;
        let shim = task.shim().await?;
        let killed = shim.kill(id.as_str(), "", signal, all).await;
        match killed {
            // Of a shim that hangs, the process is told directly; a virtual machine has no other way to be ended.
            Err(error) if error.is_silent() && signal == SIGKILL => {
                inspect::signal(init, signal)?;
                tracing::warn!("Container {id} was killed past its shim: {error}");
                Ok(())
            }
            other => Ok(other?),
        }
    }

    async fn describe(&self, process: &ProcessId) -> Option<String> {
        self.0.processes.describe(process).await
    }

    async fn set_paused(&self, _handler: &str, id: &ContainerId, paused: bool) -> PortResult<()> {
        let shim = self.0.task(id)?.shim().await?;
        Ok(match paused {
            true => shim.pause(id.as_str()).await,
            false => shim.resume(id.as_str()).await,
        }?)
    }

    async fn checkpoint(
        &self,
        _handler: &str,
        _id: &ContainerId,
        _request: CheckpointProcess,
    ) -> PortResult<()> {
        Err("containers of a shim are not checkpointed".into())
    }

    async fn delete(
        &self,
        pod: &PodId,
        handler: &str,
        id: &ContainerId,
        dirs: &RecordDirs,
    ) -> PortResult<()> {
        self.0.delete(pod, handler, id, dirs).await
    }

    async fn exec(&self, request: ExecProcess) -> PortResult<ExecOutput> {
        let task = self.0.task(&request.id)?;
        exec::run(&task, request).await
    }

    async fn exec_session(&self, request: ExecSession) -> PortResult<Session> {
        let task = self.0.task(&request.id)?;
        exec::session(&task, request).await
    }

    async fn attach_session(&self, request: AttachSession) -> PortResult<Session> {
        let task = self.0.task(&request.id)?;
        let terminal = request.terminal;
        let mut session = self.0.processes.attach_session(request).await?;
        if terminal {
            session.terminal = Some(Box::new(exec::Terminal::of_task(task)));
        }
        Ok(session)
    }

    async fn reopen_log(
        &self,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
        log_path: &std::path::Path,
    ) -> PortResult<()> {
        self.0.processes.reopen_log(pod, id, dirs, log_path).await
    }

    async fn hear_held_calls(&self, id: &ContainerId) -> PortResult<PathBuf> {
        self.0.processes.hear_held_calls(id).await
    }

    async fn ignore_held_calls(&self, id: &ContainerId) -> PortResult<()> {
        self.0.processes.ignore_held_calls(id).await
    }

    async fn update(&self, _handler: &str, id: &ContainerId, resources: Vec<u8>) -> PortResult<()> {
        let shim = self.0.task(id)?.shim().await?;
        Ok(shim.update(id.as_str(), resources).await?)
    }

    async fn inspect(
        &self,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
        init: &ProcessId,
    ) -> PortResult<MonitorReport> {
        self.0.inspect(pod, id, dirs, init).await
    }
}
