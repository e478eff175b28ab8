//! StartContainer.

use crioxide_cri_api::v1;
use crioxide_node_records::{container_state::ContainerStatus, go_time};

use crate::{Engine, EngineError, error::Context as _, operation, ops::exits::now_nanoseconds};

impl Engine {
    /// Runs the process of a created container.
    ///
    /// # Errors
    /// `NotFound`, or that it is not in the created state, or the runtime's report; the container then counts as
    /// exited.
    pub async fn start_container(&self, id: &str) -> Result<(), EngineError> {
        let container = self.find_container(id)?;
        let engine = self.clone();
        let start = operation::spawn(async move {
            let _gate = container.gate.lock().await;
            let status = container.status();
            if container.cri_state() != v1::ContainerState::ContainerCreated {
                let word = format!("{status:?}").to_lowercase();
                return Err(EngineError::refused(format!(
                    "container {} is not in created state: {word}",
                    container.id
                )));
            }
            // Before the start: an exit that comes at once must find the container running.
            let started = go_time::from_unix_nanoseconds(now_nanoseconds());
            engine.start_begins(&container);
            let restores = container.awaits_restore();
            let running = container.change(|state| {
                if state.status == ContainerStatus::Created {
                    state.status = ContainerStatus::Running;
                    state.started = started;
                }
            });
            let backend = &engine.inner.ports.backend;
            let result = match restores {
                true => engine.restore_processes(&container).await,
                false => {
                    let started = backend.start(&container.handler, &container.id).await;
                    started.doing(|| format!("failed to start container {}", container.id))
                }
            };
            match result {
                Ok(()) => {
                    engine.save_state(&container).await;
                    engine.start_ended(&container, Some(&running));
                    let done = if restores { "Restored" } else { "Started" };
                    let (id, name) = (&container.id, &container.info.name);
                    tracing::info!("{done} container {id}: {name}");
                    Ok(())
                }
                Err(error) => {
                    container.change(|state| {
                        state.status = ContainerStatus::Stopped;
                        state.error = error.message().to_owned();
                        state.started = state.created;
                        state.finished = state.created;
                        state.exit_code.get_or_insert(255);
                    });
                    engine.save_state(&container).await;
                    engine.start_ended(&container, None);
                    let _ = backend
                        .delete(
                            &container.pod,
                            &container.handler,
                            &container.id,
                            &container.dirs,
                        )
                        .await;
                    Err(error)
                }
            }
        });
        start.await.unwrap_or_else(|_| {
            Err(EngineError::refused(format!(
                "the start of container {id} was abandoned"
            )))
        })
    }
}
