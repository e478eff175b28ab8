//! Following shims: the ends of their containers, their own ends, and what became of both while the daemon was away.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crioxide_engine::ports::{ExitReport, MonitorReport, PortResult, ProcessId, RecordDirs};
use crioxide_monitor_client::{FailureKind, MonitorError};
use crioxide_names::{ContainerId, PodId};
use crioxide_shim_client::{ShimError, TaskExit, TaskState};
use tokio::sync::mpsc;

use super::{
    super::{BackendEvent, inspect},
    Inner,
    link::Link,
    log,
    tasks::Task,
};

/// How often a shim that closed the connection is tried again, and after which pause.
const RECONNECTS: u32 = 3;
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);

/// Exit code of a container whose shim died: it was killed after it.
const KILLED: i32 = 137;

/// Why a task is followed no more.
enum Outcome {
    Ended(TaskExit),
    /// The shim does not know it any more.
    Unknown,
    /// The shim is dead.
    Dead,
}

impl Inner {
    /// Follows a container, unless that is done already.
    pub(super) fn follow(self: &Arc<Self>, task: &Arc<Task>) {
        task.follow_once(|| {
            let (inner, followed) = (Arc::downgrade(self), Arc::downgrade(task));
            tokio::spawn(follow(inner, followed)).abort_handle()
        });
    }

    /// Tells the monitor of an end, which records it and tells the engine; without a monitor that is told directly.
    async fn tell_end(&self, task: &Task, exit: TaskExit) {
        let finished_at = exit.finished_at.unwrap_or_else(inspect::now);
        let told = self
            .tell_monitor(&task.pod, &task.id, exit.exit_code, finished_at)
            .await;
        if let Err(error) = told {
            let reason = crioxide_engine::chain(error.as_ref());
            tracing::warn!(
                "The end of container {} is not in its log: {reason}",
                task.id
            );
            // The receiver lives as long as the daemon.
            let _ = self.events.send(BackendEvent::Exited(ExitReport {
                id: task.id.clone(),
                exit_code: Some(exit.exit_code),
                oom_killed: task.dirs.run.join("oom").exists(),
                finished_at,
            }));
        }
        task.ended.send_replace(true);
    }

    /// Tells the pod's monitor that a container has ended, if it keeps it.
    pub(super) async fn tell_monitor(
        &self,
        pod: &PodId,
        id: &ContainerId,
        exit_code: i32,
        finished_at: i64,
    ) -> PortResult<()> {
        let monitor = self.processes.monitors.of(pod)?;
        Ok(monitor.ended(id.as_str(), exit_code, finished_at).await?)
    }

    /// What became of a container while nobody looked.
    pub(super) async fn inspect(
        self: &Arc<Self>,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
        init: &ProcessId,
    ) -> PortResult<MonitorReport> {
        let kept = self.processes.monitors.report(pod, id).await;
        if let Some(exited @ MonitorReport::Exited(_)) = kept {
            return Ok(exited);
        }
        let Some(task) = self.found(pod, id, dirs)? else {
            return Ok(MonitorReport::Lost);
        };
        task.set_init(init.clone());
        let state = match task.link.shim().await {
            Ok(shim) => shim.state(id.as_str()).await,
            Err(error) => Err(error),
        };
        match state {
            Ok(TaskState::Ended(_)) | Ok(TaskState::Alive) => {}
            Err(error) if error.is_not_found() => return Ok(MonitorReport::Lost),
            // The follower finds out, and tells.
            Err(error) => tracing::warn!("Failed to look after container {id}: {error}"),
        }
        self.follow(&task);
        Ok(MonitorReport::Alive { monitored: true })
    }

    /// A container that is known, or one of a former daemon.
    pub(super) fn found(
        &self,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
    ) -> PortResult<Option<Arc<Task>>> {
        if let Some(task) = self.tasks.of(id) {
            return Ok(Some(task));
        }
        let Some(bootstrap) = Link::read(&dirs.run)? else {
            return Ok(None);
        };
        let link = self.tasks.link(bootstrap)?;
        link.recall_process(&dirs.run);
        log::reopen(&dirs.run, pod);
        let task = Task::new(pod.clone(), id.clone(), dirs.clone(), link);
        Ok(Some(self.tasks.insert_or_get(task)))
    }

    /// The end of a container whose shim died: the shim's program ends it.
    async fn end_orphan(&self, task: &Task) -> TaskExit {
        tracing::warn!(
            "The shim of container {} in pod {} has died; the container is ended",
            task.id,
            task.pod
        );
        let place = self.processes.homes.of(&task.pod);
        let handler = match &place {
            Some(place) => self.handler(&place.home.handler),
            None => Err(format!("pod {} is gone", task.pod).into()),
        };
        let cleaned = match handler {
            Ok(handler) => self.clean_up_after(handler, &task.id, &task.dirs.run).await,
            Err(error) => Err(error),
        };
        cleaned.unwrap_or_else(|error| {
            let reason = crioxide_engine::chain(error.as_ref());
            tracing::warn!("Failed to clean up after the shim of {}: {reason}", task.id);
            // What was its process must not live on unseen.
            let _ = inspect::signal(&task.init(), super::SIGKILL);
            TaskExit {
                exit_code: KILLED,
                finished_at: None,
            }
        })
    }
}

async fn follow(inner: Weak<Inner>, task: Weak<Task>) {
    let outcome = outcome(&task).await;
    let (Some(inner), Some(task)) = (inner.upgrade(), task.upgrade()) else {
        return;
    };
    let exit = match outcome {
        Some(Outcome::Ended(exit)) => exit,
        Some(Outcome::Unknown) => TaskExit {
            exit_code: 255,
            finished_at: None,
        },
        Some(Outcome::Dead) => inner.end_orphan(&task).await,
        None => return,
    };
    inner.tell_end(&task, exit).await;
}

/// Waits for the end. Only what is needed is held meanwhile: a task that is removed is followed no more.
async fn outcome(task: &Weak<Task>) -> Option<Outcome> {
    let (link, id) = {
        let task = task.upgrade()?;
        (task.link.clone(), task.id.clone())
    };
    let mut tries = 0;
    loop {
        let waited = match link.shim().await {
            Ok(shim) => {
                let waited = shim.wait(id.as_str(), "").await;
                if !matches!(waited, Err(ShimError::Gone { .. })) {
                    tries = 0;
                }
                waited
            }
            Err(error) => Err(error),
        };
        match waited {
            Ok(exit) => return Some(Outcome::Ended(exit)),
            Err(error) if error.is_not_found() => return Some(Outcome::Unknown),
            Err(error) if error.is_gone() => {
                tries += 1;
                if tries > RECONNECTS || matches!(error, ShimError::Connect { .. }) {
                    return Some(Outcome::Dead);
                }
            }
            Err(error) => tracing::warn!("Failed to wait for the end of container {id}: {error}"),
        }
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// Tells shims that nobody will type into a container any more.
pub(super) async fn close_stdin(
    inner: Weak<Inner>,
    mut closed: mpsc::UnboundedReceiver<ContainerId>,
) {
    while let Some(id) = closed.recv().await {
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let Some(task) = inner.tasks.of(&id) else {
            continue;
        };
        let closing = async { task.link.shim().await?.close_stdin(id.as_str(), "").await };
        match closing.await {
            Err(error) if !error.is_not_found() => {
                tracing::warn!("Failed to end the input of container {id}: {error}");
            }
            _ => {}
        }
    }
}

/// Whether a monitor does not know a container.
pub(super) fn is_unknown(error: &MonitorError) -> bool {
    error.failure().map(|failure| failure.kind) == Some(FailureKind::NotFound)
}
