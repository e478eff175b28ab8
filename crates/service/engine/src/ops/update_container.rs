//! UpdateContainerResources.

use crioxide_cri_api::v1;
use crioxide_runtime_spec::resources;

use crate::{Engine, EngineError, ErrorKind, error::Context as _};

impl Engine {
    /// Changes the limits of a created or running container; zero values stay as they are.
    ///
    /// # Errors
    /// When the container is unknown or has no process, a value makes no sense, or the runtime refuses it.
    pub async fn update_container(
        &self,
        id: &str,
        requested: v1::LinuxContainerResources,
    ) -> Result<(), EngineError> {
        let container = self
            .find_container(id)
            .map_err(|e| EngineError::new(ErrorKind::Failed, e.message()))?;
        if !container.is_alive() {
            return Err(EngineError::refused(format!(
                "container {} is not running or created state",
                container.id
            )));
        }
        let _gate = container.gate.lock().await;
        let mut current = oci_spec::runtime::LinuxResources::default();
        let in_force = container
            .resources
            .read()
            .expect("no holder of this lock panics")
            .clone();
        let facts = self.inner.settings.cgroups;
        resources::apply(&mut current, &in_force, 0, facts).map_err(|error| {
            EngineError::failed(format!("limits of container {}", container.id), &error)
        })?;
        let change = resources::update(&mut current, &requested, facts).map_err(|error| {
            EngineError::failed(
                format!("failed to update container {}", container.id),
                &error,
            )
        })?;
        let json = serde_json::to_vec(&change)
            .map_err(|error| EngineError::failed("write limits", &error))?;
        let updated = self
            .inner
            .ports
            .backend
            .update(&container.handler, &container.id, json)
            .await;
        updated.doing(|| format!("failed to update container {}", container.id))?;
        let oom = i32::try_from(in_force.oom_score_adj).ok();
        *container
            .resources
            .write()
            .expect("no holder of this lock panics") = resources::to_cri(&current, oom);
        Ok(())
    }
}
