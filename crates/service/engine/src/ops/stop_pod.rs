//! StopPodSandbox: network, containers, pause process, namespaces, mounts, monitor; each step also after another failed.

use std::{sync::Arc, time::Duration};

use crioxide_cri_api::v1;
use crioxide_names::{ContainerId, PodId};
use futures_util::future::join_all;

use crate::{
    Engine, EngineError, operation,
    ops::remove::Failures,
    pod::Pod,
    ports::{Marker, PortResult},
};

/// Grace for containers when the request has no deadline.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);

impl Engine {
    /// Stops a pod; an unknown one is stopped already. `remaining` is what is left of the request's deadline.
    ///
    /// # Errors
    /// The steps that failed; repeating the request tries them again.
    pub async fn stop_pod(&self, id: &str, remaining: Option<Duration>) -> Result<(), EngineError> {
        let Some(pod) = self.pod_if_exists(id)? else {
            return Ok(());
        };
        let engine = self.clone();
        // In a task of its own: a client that leaves does not stop it half-way.
        let stop = operation::spawn(async move {
            let grace = remaining.map_or(DEFAULT_GRACE, |left| {
                left.saturating_sub(Duration::from_secs(1))
            });
            engine.stop_sandbox(&pod, grace).await
        });
        stop.await.unwrap_or_else(|_| {
            Err(EngineError::refused(format!(
                "the stop of pod {id} was abandoned"
            )))
        })
    }

    pub(crate) async fn stop_sandbox(
        &self,
        pod: &Arc<Pod>,
        grace: Duration,
    ) -> Result<(), EngineError> {
        pod.set_stopping();
        // Before the gate: a stop with a shorter grace must reach the containers of one under way.
        self.stop_containers(pod, grace).await?;
        let _gate = pod.gate.lock().await;
        // Containers that were being made when the first round ran.
        self.stop_containers(pod, grace).await?;

        if pod.is_torn_down() {
            return Ok(());
        }
        let ports = &self.inner.ports;
        let mut failures = Failures::default();
        failures.note("give back the network", self.stop_network(pod).await);
        failures.note("end the infra container", self.stop_pause(pod).await);
        failures.note(
            "remove namespaces",
            ports.host.remove_namespaces(&pod.id, &pod.namespaces).await,
        );
        failures.note(
            "unmount shared memory",
            ports.host.remove_files(&pod.dirs).await,
        );
        failures.check(|| format!("failed to stop pod {}", pod.id))?;
        failures.note(
            "mark it stopped",
            ports.records.mark(&pod.dirs, Marker::Stopped).await,
        );
        failures.check(|| format!("failed to stop pod {}", pod.id))?;
        self.end_monitor(&pod.id).await;
        pod.set_stopped();
        self.pod_event(pod, v1::ContainerEventType::ContainerStoppedEvent);
        ports.stats.forget(pod.id.as_str());
        pod.set_torn_down();
        tracing::info!("Stopped pod sandbox: {}", pod.id);
        Ok(())
    }

    /// Nothing is left that it could watch. One that does not go yet is told again when the pod is removed.
    pub(super) async fn end_monitor(&self, pod: &PodId) {
        if let Err(error) = self.inner.ports.backend.stop_monitor(pod).await {
            tracing::debug!(
                "The monitor of stopped pod {pod} stays: {}",
                crate::chain(error.as_ref())
            );
        }
    }

    async fn stop_network(&self, pod: &Pod) -> PortResult<()> {
        if pod.network_is_stopped() {
            return Ok(());
        }
        if !pod.info.host_network {
            self.inner.ports.network.remove(&pod.network()).await?;
        }
        self.inner
            .ports
            .records
            .mark(&pod.dirs, Marker::NetworkStopped)
            .await?;
        pod.set_network_stopped();
        Ok(())
    }

    /// All side by side; a process that cannot be killed keeps its pod's network and namespaces.
    async fn stop_containers(&self, pod: &Arc<Pod>, grace: Duration) -> Result<(), EngineError> {
        let containers = self.containers_of(pod);
        let stops = containers
            .iter()
            .map(|container| self.stop(container, grace));
        join_all(stops).await.into_iter().collect()
    }

    async fn stop_pause(&self, pod: &Pod) -> PortResult<()> {
        let Some(pause) = &pod.pause else {
            return Ok(());
        };
        let (backend, id) = (&self.inner.ports.backend, ContainerId::from(&pod.id));
        // The delete kills what still runs, and with it everything in the pod's PID namespace.
        backend
            .delete(&pod.id, &pod.info.runtime_handler, &id, &pod.dirs)
            .await?;
        pause.ended.send_replace(true);
        Ok(())
    }
}
