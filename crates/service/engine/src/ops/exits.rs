//! What happens when a container's process ends, or is to end for what it did.

mod held_calls;

use crioxide_cri_api::v1;
use crioxide_names::{ContainerId, PodId};
use crioxide_node_records::{ContainerState, container_state::ContainerStatus, go_time};

use crate::{
    Engine,
    container::Container,
    ports::{ExitReport, MonitorReport},
};

pub(crate) use held_calls::HeldCalls;

/// Exit code of a process that nobody saw end, as CRI-O records it.
const UNKNOWN_EXIT: i32 = 255;

impl Engine {
    /// Takes the report of an exit, from a monitor or from a look at the host.
    pub async fn container_exited(&self, report: ExitReport) {
        if let Some(container) = self.inner.containers.get(report.id.as_str()) {
            self.record_exit(&container, &report).await;
        } else if let Some(pod) = self.inner.pods.get(report.id.as_str())
            && let Some(pause) = &pod.pause
        {
            pause.ended.send_replace(true);
            // Without its pause process a pod-level PID namespace is dead, and everything in it.
            if !pod.is_stopping() {
                tracing::warn!("The infra container of pod {} has ended", pod.id);
                pod.set_stopped();
                self.pod_event(&pod, v1::ContainerEventType::ContainerStoppedEvent);
            }
        }
    }

    /// Looks after the containers of a pod whose monitor died: those that live are watched from now on by their process.
    pub async fn monitor_lost(&self, pod: &PodId) {
        let Some(pod) = self.inner.pods.get(pod.as_str()) else {
            return;
        };
        for container in self.containers_of(&pod) {
            if container.is_alive() {
                let metrics = crioxide_metrics::get();
                metrics.stopped_monitors.add_one([&container.info.name]);
                self.recheck(&container).await;
            }
        }
        if let Some(pause) = &pod.pause
            && !*pause.ended.borrow()
        {
            let id = ContainerId::from(&pod.id);
            match self
                .inner
                .ports
                .backend
                .inspect(&pod.id, &id, &pod.dirs, &pause.process)
                .await
            {
                Ok(MonitorReport::Alive { .. }) => {}
                Ok(MonitorReport::Exited(_) | MonitorReport::Lost) => {
                    let exit = ExitReport {
                        id,
                        exit_code: None,
                        oom_killed: false,
                        finished_at: now_nanoseconds(),
                    };
                    self.container_exited(exit).await;
                }
                Err(error) => tracing::warn!("Failed to look after pod {}: {error}", pod.id),
            }
        }
    }

    async fn record_exit(&self, container: &Container, report: &ExitReport) {
        let ended = self.end_container(container, || {
            let mut ended = false;
            container.change(|state| {
                ended = state.status != ContainerStatus::Stopped;
                if ended {
                    apply_exit(state, report);
                }
            });
            ended
        });
        if ended {
            tracing::debug!(
                "Container {} ended with code {:?}, OOM killed: {}",
                container.id,
                report.exit_code,
                report.oom_killed
            );
            if report.oom_killed {
                let metrics = crioxide_metrics::get();
                metrics.oom.add_one();
                metrics.oom_by_name.add_one([&container.info.name]);
            }
            self.inner.ports.stats.forget(container.id.as_str());
            self.save_state(container).await;
        }
    }

    /// Looks at the host for a container whose exit may have been missed.
    pub(crate) async fn recheck(&self, container: &Container) {
        if container.awaits_restore() {
            return;
        }
        let init = container.init();
        let report = self
            .inner
            .ports
            .backend
            .inspect(&container.pod, &container.id, &container.dirs, &init)
            .await;
        match report {
            Ok(MonitorReport::Exited(report)) => self.record_exit(container, &report).await,
            Ok(MonitorReport::Lost) => {
                let report = ExitReport {
                    id: container.id.clone(),
                    exit_code: None,
                    oom_killed: false,
                    finished_at: now_nanoseconds(),
                };
                self.record_exit(container, &report).await;
            }
            Ok(MonitorReport::Alive { .. }) => {}
            Err(error) => {
                tracing::warn!("Failed to look after container {}: {error}", container.id)
            }
        }
    }

    /// Writes state.json. The state in memory stays right if the disk is full, and the next change tries again.
    pub(crate) async fn save_state(&self, container: &Container) {
        let _turn = container.saving.lock().await;
        let state = container.state.borrow().clone();
        let saved = match state.to_json() {
            Ok(json) => {
                self.inner
                    .ports
                    .records
                    .save_state(&container.dirs, json)
                    .await
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = saved {
            tracing::error!(
                "Failed to save the state of container {}: {}",
                container.id,
                crate::chain(error.as_ref())
            );
        }
    }
}

/// The recorded state after an exit.
pub(crate) fn apply_exit(state: &mut ContainerState, report: &ExitReport) {
    state.status = ContainerStatus::Stopped;
    state.exit_code = Some(report.exit_code.unwrap_or(UNKNOWN_EXIT));
    state.oom_killed = report.oom_killed;
    state.finished = go_time::from_unix_nanoseconds(report.finished_at);
    state.pid = 0;
}

/// Now, in Unix nanoseconds.
pub(crate) fn now_nanoseconds() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}
