//! The pods' monitors: started, found again, listened to.

use std::{
    collections::HashMap, ffi::OsStr, future::poll_fn, path::Path, sync::Arc, task::Poll,
    time::Duration,
};

use crioxide_engine::ports::{Adoption, ExitReport, MonitorReport, PortResult};
use crioxide_monitor_client::{
    Connected, ExitReport as MonitorExit, FailureKind, Monitor, MonitorConfig, MonitorError,
    MonitorEvent, Spawner,
};
use crioxide_names::{ContainerId, PodId};
use tokio::sync::{mpsc, watch};

use super::inspect;
use crate::OpenFilesLimit;

/// How often a monitor that listens but does not answer is tried again, and how long after.
const RECONNECTS: u32 = 3;
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// How long it may take to see that a monitor has died; it is tried again meanwhile.
const NOTICE: Duration = Duration::from_secs(2);

/// How long a monitor that was told to end is waited for.
const FAREWELL: Duration = Duration::from_secs(1);

/// News from below.
#[derive(Debug)]
pub(crate) enum BackendEvent {
    /// A container's process ended.
    Exited(ExitReport),
    /// A pod's monitor died; its containers may live on.
    MonitorLost(PodId),
    /// A container's seccomp filter held a system call of this name up, and it was refused.
    CallHeld(ContainerId, String),
}

/// All monitors the daemon is connected to.
pub(super) struct Monitors {
    spawner: Arc<Spawner>,
    connected: Arc<watch::Sender<Connections>>,
    events: mpsc::UnboundedSender<BackendEvent>,
    stdin_closed: mpsc::UnboundedSender<ContainerId>,
}

impl Monitors {
    /// Starts the spawner. Containers of shims into which nobody will type any more go to `stdin_closed`.
    pub(super) fn start(
        program: &Path,
        open_files: OpenFilesLimit,
        events: mpsc::UnboundedSender<BackendEvent>,
        stdin_closed: mpsc::UnboundedSender<ContainerId>,
    ) -> PortResult<Self> {
        // Containers get the limit that we were started with, not the one we raised for ourselves.
        let limit = format!("{}:{}", text(open_files.soft), text(open_files.hard));
        let spawner = Spawner::start(program, &[OsStr::new("spawner"), OsStr::new(&limit)])?;
        Ok(Self {
            spawner: Arc::new(spawner),
            connected: Arc::default(),
            events,
            stdin_closed,
        })
    }

    /// The spawner, which also runs programs.
    pub(super) fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// The monitor of a pod.
    pub(super) fn of(&self, pod: &PodId) -> PortResult<Monitor> {
        let monitor = self.connected.borrow().get(pod).cloned();
        Ok(monitor.ok_or_else(|| format!("the monitor of pod {pod} is gone"))?)
    }

    /// Waits until a connection that was found to have ended is no longer the pod's; `false` when it stays so.
    pub(super) async fn left(&self, pod: &PodId, monitor: &Monitor) -> bool {
        left(&self.connected, pod, monitor).await
    }

    /// Starts a pod's monitor and returns its process id.
    pub(super) async fn spawn(&self, pod: &PodId, config: MonitorConfig) -> PortResult<i32> {
        let spawner = self.spawner.clone();
        let mut making = Box::pin(async move { spawner.spawn_monitor(config).await });
        let first = poll_fn(|context| Poll::Ready(making.as_mut().poll(context))).await;
        let connected = match first {
            Poll::Ready(made) => made,
            // The request is out. The rest is a task of its own: the caller goes on to other things, on a thread that they
            // may block.
            Poll::Pending => tokio::spawn(making).await.map_err(|error| {
                format!("starting the monitor of pod {pod} was abandoned: {error}")
            })?,
        }?;
        let pid = connected.monitor.pid();
        self.listen(pod, connected);
        Ok(pid)
    }

    /// Connects to a monitor that a former daemon started.
    pub(super) async fn adopt(&self, pod: &PodId, socket: &Path) -> PortResult<Adoption> {
        if self.of(pod).is_ok() {
            return Ok(Adoption::Connected);
        }
        match Monitor::connect(socket).await {
            Ok(connected) => {
                self.listen(pod, connected);
                Ok(Adoption::Connected)
            }
            Err(MonitorError::Connect { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(Adoption::None)
            }
            Err(MonitorError::Connect { .. }) => Ok(Adoption::Gone),
            Err(error) => Err(error.into()),
        }
    }

    fn listen(&self, pod: &PodId, connected: Connected) {
        let listener = Listener {
            pod: pod.clone(),
            map: self.connected.clone(),
            events: self.events.clone(),
            stdin_closed: self.stdin_closed.clone(),
        };
        let mut news = listener.take(connected, |map, pod, monitor| {
            map.insert(pod.clone(), monitor);
        });
        tokio::spawn(async move {
            // The connection may end while the monitor lives: it drops a client that does not keep up.
            while listener.follow(&mut news).await == Ended::Unexpected {
                let Some(again) = listener.connect_again().await else {
                    break;
                };
                news = again;
            }
        });
    }

    /// Ends a pod's monitor.
    pub(super) async fn stop(&self, pod: &PodId) -> PortResult<()> {
        let Some(monitor) = remove(&self.connected, pod) else {
            return Ok(());
        };
        let process = super::process_id(monitor.pid());
        let ended = match monitor.shutdown().await {
            // The connection is gone; the monitor need not be.
            Err(MonitorError::Gone { .. }) => match Monitor::connect(monitor.socket()).await {
                Ok(again) => again.monitor.shutdown().await,
                Err(MonitorError::Connect { .. } | MonitorError::Gone { .. }) => Ok(()),
                Err(error) => Err(error),
            },
            result => result,
        };
        match ended {
            Ok(()) | Err(MonitorError::Gone { .. }) => {
                // Its cgroup can be removed once it has left it. One that does not go is found there.
                let _ = tokio::time::timeout(FAREWELL, inspect::ended(&process)).await;
                Ok(())
            }
            Err(error) => {
                self.connected
                    .send_modify(|all| drop(all.insert(pod.clone(), monitor)));
                Err(error.into())
            }
        }
    }

    /// Lets a monitor forget a container.
    pub(super) async fn forget(&self, pod: &PodId, id: &ContainerId) -> PortResult<Forgotten> {
        let Ok(monitor) = self.of(pod) else {
            return Ok(Forgotten::Yes);
        };
        match monitor.remove(id.as_str()).await {
            Ok(()) | Err(MonitorError::Gone { .. }) => Ok(Forgotten::Yes),
            Err(error) => match error.failure().map(|failure| failure.kind) {
                Some(FailureKind::NotFound) => Ok(Forgotten::Yes),
                Some(FailureKind::State) => Ok(Forgotten::StillLiving),
                _ => Err(error.into()),
            },
        }
    }

    /// What the pod's monitor says of a container.
    pub(super) async fn report(&self, pod: &PodId, id: &ContainerId) -> Option<MonitorReport> {
        let containers = self.of(pod).ok()?.list().await.ok()?;
        let found = containers
            .into_iter()
            .find(|container| container.id == id.as_str())?;
        Some(match found.exit {
            None => MonitorReport::Alive { monitored: true },
            Some(exit) => MonitorReport::Exited(exit_report(id.clone(), exit)),
        })
    }
}

/// Whether a monitor could forget a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forgotten {
    /// It does not know it, or no more.
    Yes,
    /// It is being made, or its end is not reported yet.
    StillLiving,
}

type Connections = HashMap<PodId, Monitor>;

async fn left(connected: &watch::Sender<Connections>, pod: &PodId, monitor: &Monitor) -> bool {
    let mut connected = connected.subscribe();
    let left = connected.wait_for(|all| !all.get(pod).is_some_and(|now| now.is_same(monitor)));
    matches!(tokio::time::timeout(NOTICE, left).await, Ok(Ok(_)))
}

fn remove(connected: &watch::Sender<Connections>, pod: &PodId) -> Option<Monitor> {
    let mut removed = None;
    connected.send_modify(|all| removed = all.remove(pod));
    removed
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The monitor was told to end.
    Expected,
    /// By itself.
    Unexpected,
}

/// Hands on what one pod's monitor tells, over as many connections as it takes.
struct Listener {
    pod: PodId,
    map: Arc<watch::Sender<Connections>>,
    events: mpsc::UnboundedSender<BackendEvent>,
    stdin_closed: mpsc::UnboundedSender<ContainerId>,
}

impl Listener {
    /// Takes over a connection: `keep` puts it into the map, and exits it missed are told.
    fn take(
        &self,
        connected: Connected,
        keep: impl FnOnce(&mut Connections, &PodId, Monitor),
    ) -> mpsc::Receiver<MonitorEvent> {
        let Connected {
            monitor,
            containers,
            events,
        } = connected;
        self.map.send_modify(|all| keep(all, &self.pod, monitor));
        for container in containers {
            report(&self.events, &container.id, container.exit);
            if container.stdin_closed {
                self.tell_closed_stdin(&container.id);
            }
        }
        events
    }

    fn tell_closed_stdin(&self, id: &str) {
        if let Ok(id) = ContainerId::parse(id) {
            // Without a handler for shims nobody wants to know.
            let _ = self.stdin_closed.send(id);
        }
    }

    async fn follow(&self, news: &mut mpsc::Receiver<MonitorEvent>) -> Ended {
        while let Some(event) = news.recv().await {
            match event {
                MonitorEvent::Exited { id, exit } => report(&self.events, &id, Some(exit)),
                MonitorEvent::StdinClosed { id } => self.tell_closed_stdin(&id),
                MonitorEvent::Oom { id } => tracing::info!("OOM in container {id}"),
                MonitorEvent::Gone => break,
            }
        }
        match self.map.borrow().contains_key(&self.pod) {
            true => Ended::Unexpected,
            false => Ended::Expected,
        }
    }

    /// `None` when the monitor is dead, which it tells the engine, or was told to end meanwhile.
    async fn connect_again(&self) -> Option<mpsc::Receiver<MonitorEvent>> {
        let socket = self.map.borrow().get(&self.pod)?.socket().to_owned();
        for attempt in 1..=RECONNECTS {
            match Monitor::connect(&socket).await {
                Ok(connected) => {
                    tracing::warn!("Connected again to the monitor of pod {}", self.pod);
                    return Some(self.take(connected, |map, pod, monitor| {
                        // A pod that was removed meanwhile stays out.
                        map.entry(pod.clone()).and_modify(|known| *known = monitor);
                    }));
                }
                // Nobody listens any more: a monitor does as long as it lives.
                Err(MonitorError::Connect { .. }) => break,
                Err(error) => {
                    tracing::warn!(
                        "Attempt {attempt} to reach the monitor of pod {} again failed: {error}",
                        self.pod
                    );
                    tokio::time::sleep(RECONNECT_PAUSE).await;
                }
            }
        }
        if remove(&self.map, &self.pod).is_some() {
            tracing::warn!(
                "Monitor for pod {} is stopped, although the pod is running",
                self.pod
            );
            // The receiver lives as long as the daemon.
            let _ = self
                .events
                .send(BackendEvent::MonitorLost(self.pod.clone()));
        }
        None
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

#[cfg(test)]
mod tests;
