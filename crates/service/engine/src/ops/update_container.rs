//! UpdateContainerResources and UpdatePodSandboxResources.

use crioxide_cri_api::v1;
use crioxide_runtime_spec::resources;

use crate::{
    Engine, EngineError, ErrorKind, container::Container, error::Context as _,
    view::container_target,
};

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
        self.check_usage(&container, &in_force, &requested).await?;
        let json = serde_json::to_vec(&change)
            .map_err(|error| EngineError::failed("write limits", &error))?;
        let updated = self
            .inner
            .ports
            .backend
            .update(&container.handler, &container.id, json)
            .await;
        updated.doing(|| format!("failed to update container {}", container.id))?;
        // Its files are opened anew, with the new limits.
        self.inner.ports.stats.forget(container.id.as_str());
        let oom = i32::try_from(in_force.oom_score_adj).ok();
        *container
            .resources
            .write()
            .expect("no holder of this lock panics") = resources::to_cri(&current, oom);
        Ok(())
    }

    /// Refuses a limit below what the container uses already: the kernel would kill it.
    async fn check_usage(
        &self,
        container: &Container,
        in_force: &v1::LinuxContainerResources,
        requested: &v1::LinuxContainerResources,
    ) -> Result<(), EngineError> {
        let (limit, present) = (
            requested.memory_limit_in_bytes,
            in_force.memory_limit_in_bytes,
        );
        if limit <= 0 || (present > 0 && limit >= present) {
            return Ok(());
        }
        let stats = &self.inner.ports.stats;
        let reading = stats.read(vec![container_target(container)]).await.pop();
        let usage = reading.and_then(|reading| reading.cgroup);
        let usage = usage.map_or(0, |usage| usage.memory_usage);
        if limit.unsigned_abs() < usage {
            return Err(EngineError::refused(format!(
                "cannot decrease memory limit of container {} to {limit}: it uses {usage} bytes",
                container.id
            )));
        }
        Ok(())
    }

    /// Takes new limits of a pod. They are the kubelet's to set on the pod's cgroup; a runtime tells its plugins, of which
    /// there are none yet.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn update_pod(&self, id: &str) -> Result<(), EngineError> {
        let pod = self.find_pod(id)?;
        // What is known of its limits may have changed.
        self.inner.ports.stats.forget(pod.id.as_str());
        Ok(())
    }
}
