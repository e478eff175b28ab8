//! Pausing and resuming a container.

use crioxide_node_records::container_state::ContainerStatus;

use crate::{Engine, EngineError, ErrorKind, container::Container, error::Context as _};

impl Engine {
    /// Freezes the processes of a created or running container.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` in any other state; or what the runtime reports.
    pub async fn pause_container(&self, id: &str) -> Result<(), EngineError> {
        let container = self.find_container(id)?;
        let _gate = container.gate.lock().await;
        let status = container.status();
        if !matches!(status, ContainerStatus::Created | ContainerStatus::Running) {
            return Err(conflict(
                "container is not in running or created state",
                status,
            ));
        }
        let paused = self
            .inner
            .ports
            .backend
            .set_paused(&container.handler, &container.id, true)
            .await;
        paused.doing(|| format!("failed to pause container {}", container.id))?;
        container.change(|state| {
            if state.status == status {
                state.status = ContainerStatus::Paused;
            }
        });
        self.save_state(&container).await;
        Ok(())
    }

    /// Lets the processes of a paused container run again.
    ///
    /// # Errors
    /// As [`Engine::pause_container`].
    pub async fn resume_container(&self, id: &str) -> Result<(), EngineError> {
        let container = self.find_container(id)?;
        let _gate = container.gate.lock().await;
        let status = container.status();
        if status != ContainerStatus::Paused {
            return Err(conflict("container is not in paused state", status));
        }
        self.resume(&container).await
    }

    /// Thaws a container that is paused.
    pub(crate) async fn resume(&self, container: &Container) -> Result<(), EngineError> {
        let resumed = self
            .inner
            .ports
            .backend
            .set_paused(&container.handler, &container.id, false)
            .await;
        resumed.doing(|| format!("failed to resume container {}", container.id))?;
        container.change(|state| {
            if state.status == ContainerStatus::Paused {
                // One that was paused before its start has no start time.
                state.status = match state.started.is_none() {
                    true => ContainerStatus::Created,
                    false => ContainerStatus::Running,
                };
            }
        });
        self.save_state(container).await;
        Ok(())
    }
}

fn conflict(what: &str, status: ContainerStatus) -> EngineError {
    let word = format!("{status:?}").to_lowercase();
    EngineError::new(ErrorKind::Conflict, format!("{what}, now is {word}"))
}
