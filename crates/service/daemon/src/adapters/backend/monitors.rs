//! The pods' monitors: started, found again, listened to.

use std::{collections::{HashMap, HashSet}, ffi::OsStr, path::Path, sync::{Arc, Mutex}};

use crioxide_engine::ports::{ExitReport, MonitorReport, PortResult, ProcessId};
use crioxide_monitor_client::{Connected, ExitReport as MonitorExit, FailureKind, Monitor, MonitorConfig, MonitorError, MonitorEvent, Spawner};
use crioxide_names::{ContainerId, PodId};
use tokio::sync::mpsc;

use super::inspect;
use crate::OpenFilesLimit;

/// News from below.
#[derive(Debug)]
pub(crate) enum BackendEvent {
    /// A container's process ended.
    Exited(ExitReport),
    /// A pod's monitor died; its containers may live on.
    MonitorLost(PodId),
}

/// All monitors the daemon is connected to.
pub(super) struct Monitors {
    spawner: Spawner,
    connected: Arc<Mutex<HashMap<PodId, Monitor>>>,
    unattended: Arc<Mutex<HashSet<ContainerId>>>,
    events: mpsc::UnboundedSender<BackendEvent>,
}

impl Monitors {
    /// Starts the spawner.
    pub(super) fn start(
        program: &Path,
        open_files: OpenFilesLimit,
        events: mpsc::UnboundedSender<BackendEvent>,
    ) -> PortResult<Self> {
        // Containers get the limit that we were started with, not the one we raised for ourselves.
        let limit = format!("{}:{}", text(open_files.soft), text(open_files.hard));
        let spawner = Spawner::start(program, &[OsStr::new("spawner"), OsStr::new(&limit)])?;
        Ok(Self { spawner, connected: Arc::default(), unattended: Arc::default(), events })
    }

    /// The monitor of a pod.
    pub(super) fn of(&self, pod: &PodId) -> PortResult<Monitor> {
        let connected = self.connected.lock().expect("no holder of this lock panics");
        Ok(connected.get(pod).cloned().ok_or_else(|| format!("the monitor of pod {pod} is gone"))?)
    }

    /// Starts a pod's monitor and returns its process id.
    pub(super) async fn spawn(&self, pod: &PodId, config: MonitorConfig) -> PortResult<i32> {
        let connected = self.spawner.spawn_monitor(config).await?;
        let pid = connected.monitor.pid();
        self.listen(pod, connected);
        Ok(pid)
    }

    /// Connects to a monitor that a former daemon started. `false` if nobody listens.
    pub(super) async fn adopt(&self, pod: &PodId, socket: &Path) -> PortResult<bool> {
        match Monitor::connect(socket).await {
            Ok(connected) => {
                self.listen(pod, connected);
                Ok(true)
            }
            Err(MonitorError::Connect { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn listen(&self, pod: &PodId, connected: Connected) {
        let Connected { monitor, containers, mut events } = connected;
        self.connected.lock().expect("no holder of this lock panics").insert(pod.clone(), monitor);
        let (events_out, map, pod) = (self.events.clone(), self.connected.clone(), pod.clone());
        for container in containers {
            report(&events_out, &container.id, container.exit);
        }
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    MonitorEvent::Exited { id, exit } => report(&events_out, &id, Some(exit)),
                    MonitorEvent::Oom { id } => tracing::info!("OOM in container {id}"),
                    MonitorEvent::Gone => {
                        let expected = map.lock().expect("no holder of this lock panics").remove(&pod).is_none();
                        if !expected {
                            tracing::warn!("Monitor for pod {pod} is stopped, although the pod is running");
                            let _ = events_out.send(BackendEvent::MonitorLost(pod.clone()));
                        }
                    }
                }
            }
        });
    }

    /// Ends a pod's monitor.
    pub(super) async fn stop(&self, pod: &PodId) -> PortResult<()> {
        let monitor = self.connected.lock().expect("no holder of this lock panics").remove(pod);
        let Some(monitor) = monitor else { return Ok(()) };
        match monitor.shutdown().await {
            Ok(()) | Err(MonitorError::Gone { .. }) => Ok(()),
            Err(error) => {
                self.connected.lock().expect("no holder of this lock panics").insert(pod.clone(), monitor);
                Err(error.into())
            }
        }
    }

    /// Lets a monitor forget an ended container.
    pub(super) async fn forget(&self, pod: &PodId, id: &ContainerId) -> PortResult<()> {
        let Ok(monitor) = self.of(pod) else { return Ok(()) };
        match monitor.remove(id.as_str()).await {
            Ok(()) | Err(MonitorError::Gone { .. }) => Ok(()),
            Err(error) if error.failure().is_some_and(|failure| failure.kind == FailureKind::NotFound) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What the pod's monitor says of a container.
    pub(super) async fn report(&self, pod: &PodId, id: &ContainerId) -> Option<MonitorReport> {
        let containers = self.of(pod).ok()?.list().await.ok()?;
        let found = containers.into_iter().find(|container| container.id == id.as_str())?;
        Some(match found.exit {
            None => MonitorReport::Alive { monitored: true },
            Some(exit) => MonitorReport::Exited(exit_report(id.clone(), exit)),
        })
    }

    /// Watches a container whose monitor is gone; its exit code will not be known.
    pub(super) fn watch_unattended(&self, id: &ContainerId, init: &ProcessId) {
        if !self.unattended.lock().expect("no holder of this lock panics").insert(id.clone()) {
            return;
        }
        let (events, unattended) = (self.events.clone(), self.unattended.clone());
        let (id, init) = (id.clone(), init.clone());
        tokio::spawn(async move {
            if let Err(error) = inspect::ended(&init).await {
                tracing::warn!("Failed to watch process {} of container {id}: {error}", init.pid);
            }
            unattended.lock().expect("no holder of this lock panics").remove(&id);
            let exit = ExitReport { id, exit_code: None, oom_killed: false, finished_at: inspect::now() };
            let _ = events.send(BackendEvent::Exited(exit));
        });
    }
}

fn text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

fn report(events: &mpsc::UnboundedSender<BackendEvent>, id: &str, exit: Option<MonitorExit>) {
    if let (Some(exit), Ok(id)) = (exit, ContainerId::parse(id)) {
        // The receiver lives as long as the daemon.
        let _ = events.send(BackendEvent::Exited(exit_report(id, exit)));
    }
}

fn exit_report(id: ContainerId, exit: MonitorExit) -> ExitReport {
    ExitReport {
        id,
        exit_code: Some(exit.exit_code),
        oom_killed: exit.oom_killed,
        finished_at: exit.finished_at_ns,
    }
}
