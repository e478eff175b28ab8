//! StopContainer: the polite signal, then the kernel's kill until the process is gone.
//!
//! Concurrent stops share one loop, which outlives its callers; a later one can only bring the kill forward.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crioxide_node_records::container_state::ContainerStatus;

use crate::{
    Engine, EngineError,
    container::{Container, StopUnderWay},
    ports::KillScope,
};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
/// First pause between two kills of a process that does not go; it doubles from try to try.
const KILL_PAUSE: Duration = Duration::from_millis(20);
const KILL_PAUSE_MAX: Duration = Duration::from_secs(120);
/// How long a caller waits after the kill; a kubelet gives up after two minutes.
const KILL_PATIENCE: Duration = Duration::from_secs(60);

impl Engine {
    /// Stops a container within `grace`; an unknown or stopped one is stopped already.
    ///
    /// # Errors
    /// When the id is ambiguous, or the kernel's kill does not end the process: with what it does instead.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let Some(container) = self.container_if_exists(id)? else {
            return Ok(());
        };
        self.stop(&container, grace).await
    }

    /// Stops a container and returns when it is down. The attempts go on when this gives up waiting.
    pub(crate) async fn stop(
        &self,
        container: &Arc<Container>,
        grace: Duration,
    ) -> Result<(), EngineError> {
        if !container.is_alive() || self.stop_unrestored(container).await {
            return Ok(());
        }
        let deadline = Instant::now() + grace;
        self.begin_stop(container, deadline);
        tokio::select! {
            () = container.ended() => Ok(()),
            () = sleep_until(deadline + KILL_PATIENCE) => self.still_alive(container).await,
        }
    }

    /// The answer for a container that outlives its kill.
    async fn still_alive(&self, container: &Container) -> Result<(), EngineError> {
        let process = container.init();
        let does = self.inner.ports.backend.describe(&process).await;
        if !container.is_alive() {
            return Ok(());
        }
        Err(EngineError::refused(format!(
            "failed to stop container {}: {} s after SIGKILL {}",
            container.id,
            KILL_PATIENCE.as_secs(),
            does.unwrap_or_else(|| format!("the end of process {} is not reported", process.pid))
        )))
    }

    /// Starts the stop, or brings the deadline of the one under way forward.
    fn begin_stop(&self, container: &Arc<Container>, deadline: Instant) {
        let mut stop = container
            .stop
            .lock()
            .expect("no holder of this lock panics");
        if let Some(under_way) = stop.as_ref() {
            under_way.deadline.send_if_modified(|current| {
                let earlier = deadline < *current;
                if earlier {
                    *current = deadline;
                }
                earlier
            });
            return;
        }
        let (sender, receiver) = watch::channel(deadline);
        *stop = Some(StopUnderWay { deadline: sender });
        let (engine, container) = (self.clone(), container.clone());
        tokio::spawn(async move {
            engine.drive_stop(&container, receiver).await;
            *container
                .stop
                .lock()
                .expect("no holder of this lock panics") = None;
        });
    }

    async fn drive_stop(&self, container: &Container, mut deadline: watch::Receiver<Instant>) {
        let backend = &self.inner.ports.backend;
        if container.status() == ContainerStatus::Paused
            && let Err(error) = self.resume(container).await
        {
            tracing::warn!("{error}");
        }
        if *deadline.borrow() > Instant::now() {
            let signal = stop_signal(container);
            if let Err(error) = backend
                .kill(
                    &container.handler,
                    &container.id,
                    &container.init(),
                    signal,
                    KillScope::Init,
                )
                .await
            {
                tracing::debug!(
                    "Failed to send signal {signal} to container {}: {error}",
                    container.id
                );
            }
            loop {
                let at = *deadline.borrow_and_update();
                tokio::select! {
                    () = container.ended() => return,
                    () = sleep_until(at) => break,
                    _ = deadline.changed() => {}
                }
            }
            tracing::info!(
                "Stopping container {} with stop signal({signal}) timed out. Killing it",
                container.id
            );
        }
        let mut pause = KILL_PAUSE;
        loop {
            if let Err(error) = backend
                .kill(
                    &container.handler,
                    &container.id,
                    &container.init(),
                    SIGKILL,
                    KillScope::Init,
                )
                .await
            {
                tracing::debug!("Failed to kill container {}: {error}", container.id);
            }
            tokio::select! {
                () = container.ended() => return,
                () = sleep(pause) => pause = (pause * 2).min(KILL_PAUSE_MAX),
            }
            self.recheck(container).await;
            // On cgroup v1 a frozen process does not die, and it may have been frozen past us. That it was not is no
            // news.
            let _ = backend
                .set_paused(&container.handler, &container.id, false)
                .await;
        }
    }
}

/// The signal that the request or the image asks for; SIGTERM otherwise.
pub(crate) fn stop_signal(container: &Container) -> i32 {
    let name = container.info.stop_signal.as_deref();
    name.and_then(crioxide_runtime_spec::stop_signal::parse)
        .unwrap_or(SIGTERM)
}
