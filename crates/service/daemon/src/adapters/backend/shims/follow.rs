//! Following shims: the ends of their containers, and their own.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use crioxide_engine::ports::{PortResult, ProcessId};
use crioxide_monitor_client::{FailureKind, MonitorError};
use crioxide_names::{ContainerId, PodId};
use crioxide_shim_client::{ShimError, TaskExit};
use tokio::{sync::mpsc, time::Instant};

use super::{
    super::{BackendEvent, inspect},
    Inner, SIGKILL,
    adopt::report,
    link::Link,
    tasks::Task,
};

/// How often a shim that closed the connection is tried again, and after which pause.
const RECONNECTS: u32 = 3;
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// The longest of the pauses, which grow, between two tries with a shim that says no.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long a shim may take to reap a process before it is held to hang and the kernel's own word is taken.
const REAP_PATIENCE: Duration = Duration::from_secs(3);

/// Exit code of a process whose end nobody saw, as CRI-O records it.
const UNKNOWN: i32 = 255;
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
            let _ = self.events.send(BackendEvent::Exited(report(task, exit)));
        }
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

    /// Ends what a shim that has died left of a container, and tells of it.
    pub(super) async fn bury(&self, task: &Task) -> TaskExit {
        tracing::warn!(
            "The shim of container {} in pod {} has died; the container is ended",
            task.id,
            task.pod
        );
        let exit = self.clean_up(task).await.unwrap_or_else(|error| {
            let reason = crioxide_engine::chain(error.as_ref());
            tracing::warn!("Failed to clean up after the shim of {}: {reason}", task.id);
            // What was its process must not live on unseen.
            let _ = inspect::signal(&task.init(), SIGKILL);
            TaskExit {
                exit_code: KILLED,
                finished_at: None,
            }
        });
        self.tell_end(task, exit).await;
        exit
    }

    /// Has the shim's program end what a dead shim left of a container: once, whoever asks first.
    pub(super) async fn clean_up(&self, task: &Task) -> PortResult<TaskExit> {
        let mut cleaned = task.cleaned.lock().await;
        if let Some(exit) = *cleaned {
            return Ok(exit);
        }
        let place = self.processes.homes.of(&task.pod);
        let place = place.ok_or_else(|| format!("pod {} is gone", task.pod))?;
        let handler = self.handler(&place.home.handler)?;
        let exit = self
            .clean_up_after(handler, &task.id, &task.dirs.run)
            .await?;
        *cleaned = Some(exit);
        Ok(exit)
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
            exit_code: UNKNOWN,
            finished_at: None,
        },
        Some(Outcome::Dead) => {
            inner.bury(&task).await;
            return;
        }
        None => return,
    };
    inner.tell_end(&task, exit).await;
}

/// Waits for the end. Only what is needed is held meanwhile: a task that is removed is followed no more.
async fn outcome(task: &Weak<Task>) -> Option<Outcome> {
    let (link, id, init) = {
        let task = task.upgrade()?;
        (task.link.clone(), task.id.clone(), task.init())
    };
    tokio::select! {
        outcome = told(&link, &id) => Some(outcome),
        exit = unreaped(&init) => {
            tracing::warn!("Container {id} has ended, but its shim does not notice; does the shim hang?");
            Some(Outcome::Ended(exit))
        }
    }
}

/// What the shim tells.
async fn told(link: &Link, id: &ContainerId) -> Outcome {
    let (mut tries, mut pause) = (0, RECONNECT_PAUSE);
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
            Ok(exit) => return Outcome::Ended(exit),
            Err(error) if error.is_not_found() => return Outcome::Unknown,
            Err(error) if error.is_gone() => {
                tries += 1;
                if tries > RECONNECTS || matches!(error, ShimError::Connect { .. }) {
                    return Outcome::Dead;
                }
            }
            Err(error) => {
                tracing::warn!("Failed to wait for the end of container {id}: {error}");
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Returns when the process has ended and its shim, which lives, does not reap it.
async fn unreaped(init: &ProcessId) -> TaskExit {
    if init.pid > 0 && inspect::ended(init).await.is_ok() {
        let noticed = Instant::now();
        while let Some(exit_code) = inspect::unreaped(init) {
            if noticed.elapsed() >= REAP_PATIENCE {
                return TaskExit {
                    exit_code,
                    finished_at: None,
                };
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
    // It was reaped: the shim tells of it.
    std::future::pending().await
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
