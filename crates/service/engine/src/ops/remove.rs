//! RemoveContainer and RemovePodSandbox.

use std::{sync::Arc, time::Duration};

use crioxide_cri_api::v1;

use crate::{Engine, EngineError, container::Container, operation, pod::Pod, ports::PortResult};

/// Grace for a running container that is removed.
const REMOVAL_GRACE: Duration = Duration::from_secs(10);

impl Engine {
    /// Removes a container, stopping it first; an unknown one is removed already.
    ///
    /// # Errors
    /// The steps that failed; the container stays, and repeating the request tries them again.
    pub async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        let Some(container) = self.container_if_exists(id)? else {
            return Ok(());
        };
        let engine = self.clone();
        let removal =
            operation::spawn(async move { engine.remove_one(&container, REMOVAL_GRACE).await });
        removal.await.unwrap_or_else(|_| {
            Err(EngineError::refused(format!(
                "the removal of container {id} was abandoned"
            )))
        })
    }

    async fn remove_one(
        &self,
        container: &Arc<Container>,
        grace: Duration,
    ) -> Result<(), EngineError> {
        self.stop(container, grace).await?;
        let _gate = container.gate.lock().await;
        if self.inner.containers.get(container.id.as_str()).is_none() {
            return Ok(());
        }
        let ports = &self.inner.ports;
        let mut failures = Failures::default();
        failures.note(
            "delete it from its runtime",
            ports
                .backend
                .delete(
                    &container.pod,
                    &container.handler,
                    &container.id,
                    &container.dirs,
                )
                .await,
        );
        failures.note(
            "end its seccomp notifier",
            ports.backend.ignore_held_calls(&container.id).await,
        );
        failures.note(
            "unmount its root",
            ports.records.unmount(&container.id).await,
        );
        failures.note(
            "unmount its images",
            ports.records.unmount_images(&container.dirs).await,
        );
        failures.check(|| format!("failed to remove container {}", container.id))?;
        failures.note(
            "remove its record",
            ports.records.remove(&container.id).await,
        );
        failures.check(|| format!("failed to remove container {}", container.id))?;
        self.inner
            .containers
            .remove(container.id.as_str(), &container.info.name);
        ports.stats.forget(container.id.as_str());
        let metrics = crioxide_metrics::get();
        metrics.oom_by_name.remove([&container.info.name]);
        metrics.stopped_monitors.remove([&container.info.name]);
        for call in container.held_calls().names() {
            metrics
                .seccomp_notifier
                .remove([&container.info.name, call]);
        }
        if let Some(pod) = self.inner.pods.get(container.pod.as_str()) {
            pod.remove_container(&container.id);
        }
        self.container_event(container, v1::ContainerEventType::ContainerDeletedEvent);
        tracing::info!(
            "Removed container {}: {}",
            container.id,
            container.info.name
        );
        Ok(())
    }

    /// Removes a pod with its containers, stopping it first; an unknown one is removed already.
    ///
    /// # Errors
    /// The steps that failed; what is left stays listed, and repeating the request tries them again.
    pub async fn remove_pod(&self, id: &str) -> Result<(), EngineError> {
        let Some(pod) = self.pod_if_exists(id)? else {
            return Ok(());
        };
        let engine = self.clone();
        let removal = operation::spawn(async move { engine.remove_sandbox(&pod).await });
        removal.await.unwrap_or_else(|_| {
            Err(EngineError::refused(format!(
                "the removal of pod {id} was abandoned"
            )))
        })
    }

    async fn remove_sandbox(&self, pod: &Arc<Pod>) -> Result<(), EngineError> {
        if !pod.is_torn_down() {
            self.stop_sandbox(pod, Duration::ZERO).await?;
        }
        let containers = self.containers_of(pod);
        // Each on its own: one that does not go must not keep the others.
        let removals: Vec<_> = containers
            .into_iter()
            .map(|container| {
                let engine = self.clone();
                operation::spawn(async move { engine.remove_one(&container, Duration::ZERO).await })
            })
            .collect();
        for removal in futures_util::future::join_all(removals).await {
            removal.unwrap_or_else(|_| {
                Err(EngineError::refused(format!(
                    "the removal of a container of pod {} was abandoned",
                    pod.id
                )))
            })?;
        }
        let _gate = pod.gate.lock().await;
        if self.inner.pods.get(pod.id.as_str()).is_none() {
            return Ok(());
        }
        let ports = &self.inner.ports;
        let mut failures = Failures::default();
        failures.note("end its monitor", ports.backend.forget_pod(&pod.id).await);
        // Again, for a pod that was stopped by the death of its infra container.
        failures.note(
            "remove namespaces",
            ports.host.remove_namespaces(&pod.id, &pod.namespaces).await,
        );
        failures.note(
            "unmount shared memory",
            ports.host.remove_files(&pod.dirs).await,
        );
        failures.note(
            "remove its cgroup",
            ports
                .host
                .release_cgroup(&pod.dirs, &pod.info.cgroup_parent)
                .await,
        );
        failures.check(|| format!("failed to remove pod {}", pod.id))?;
        failures.note(
            "remove its record",
            ports.records.remove(&(&pod.id).into()).await,
        );
        failures.check(|| format!("failed to remove pod {}", pod.id))?;
        ports.host.release_label(&pod.labels.mount);
        self.inner.pods.remove(pod.id.as_str(), &pod.info.name);
        ports.stats.forget(pod.id.as_str());
        self.pod_event(pod, v1::ContainerEventType::ContainerDeletedEvent);
        tracing::info!("Removed pod sandbox: {}", pod.id);
        Ok(())
    }
}

/// Failures of a teardown, which goes on past each of them.
#[derive(Default)]
pub(crate) struct Failures(Vec<String>);

impl Failures {
    pub(crate) fn note(&mut self, step: &str, result: PortResult<()>) {
        if let Err(error) = result {
            self.0
                .push(format!("{step}: {}", crate::chain(error.as_ref())));
        }
    }

    pub(crate) fn check(&self, what: impl FnOnce() -> String) -> Result<(), EngineError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(EngineError::refused(format!(
                "{}: {}",
                what(),
                self.0.join("; ")
            )))
        }
    }
}
