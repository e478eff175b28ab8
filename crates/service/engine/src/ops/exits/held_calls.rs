//! System calls that a container's seccomp profile forbids and that its pod wants to hear of: they are logged, counted,
//! and may end the container.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc, time::Duration};

use crioxide_names::ContainerId;
use crioxide_node_records::container_state::ContainerStatus;
use crioxide_runtime_spec::{annotation_filter, seccomp::notify};
use oci_spec::runtime::Spec;
use tokio::time::{Instant, sleep_until};

use crate::{
    Engine, EngineError, container::Container, error::Context as _, ops::undo::Undo, pod::Pod,
};

/// The annotation of pods that want to hear of forbidden calls.
const ANNOTATION: &str = "seccomp-notifier-action.crio.io";
/// Its value where they end the container.
const STOP: &str = "stop";
/// How long after the last forbidden call a container is ended: others may follow, and all are to be in the message.
const QUIET: Duration = Duration::from_secs(5);

/// The forbidden calls of one container.
#[derive(Debug, Default)]
pub(crate) struct HeldCalls {
    counts: BTreeMap<String, u64>,
    /// When the container is ended; later with every call.
    end: Option<Instant>,
}

impl HeldCalls {
    /// Counts a call; `true` if somebody has to see to the end now.
    fn note(&mut self, call: &str, stops: bool) -> bool {
        *self.counts.entry(call.to_owned()).or_default() += 1;
        let is_first = self.end.is_none();
        if stops {
            self.end = Some(Instant::now() + QUIET);
        }
        stops && is_first
    }

    /// As CRI-O words it.
    fn message(&self) -> String {
        let mut text = "Used forbidden syscalls: ".to_owned();
        for (index, (call, count)) in self.counts.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(text, "{comma}{call} ({count}x)");
        }
        text
    }

    /// The names of the calls.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.counts.keys().map(String::as_str)
    }
}

/// What a pod wants done about forbidden calls.
fn action(pod: &Pod) -> Option<&str> {
    annotation_filter::lookup(&pod.info.annotations, ANNOTATION, None)
}

impl Engine {
    /// Has the forbidden calls of a new container held up, if its pod wants to hear of them.
    pub(in crate::ops) async fn hold_forbidden_calls(
        &self,
        (id, pod): (&ContainerId, &Pod),
        spec: &mut Spec,
        undo: &mut Undo,
    ) -> Result<(), EngineError> {
        let linux = spec.linux().as_ref();
        let profile = linux.and_then(|linux| linux.seccomp().clone());
        let (Some(mut profile), Some(_)) = (profile, action(pod)) else {
            return Ok(());
        };
        let backend = self.inner.ports.backend.clone();
        let socket = backend.hear_held_calls(id).await;
        let socket =
            socket.doing(|| format!("failed to run the seccomp notifier of container {id}"))?;
        let owned = id.clone();
        undo.push("the container's seccomp notifier", move || async move {
            backend.ignore_held_calls(&owned).await
        });
        tracing::info!("Injecting seccomp notifier into seccomp profile of container {id}");
        if notify::hold_up_forbidden(&mut profile, &socket) {
            tracing::info!(
                "The seccomp profile of container {id} forbids by default the calls that it does not name; the \
                 notifier does not hear of those"
            );
        }
        let mut linux = spec.linux().clone().unwrap_or_default();
        linux.set_seccomp(Some(profile));
        spec.set_linux(Some(linux));
        Ok(())
    }

    /// Listens again for the calls of a container that a former daemon made.
    pub(in crate::ops) async fn hear_again(&self, container: &Container, pod: &Pod) {
        let linux = container.spec.linux().as_ref();
        let profile = linux.and_then(|linux| linux.seccomp().as_ref());
        let held = profile.is_some_and(|profile| profile.listener_path().is_some());
        if !held || action(pod).is_none() || !container.is_alive() {
            return;
        }
        if let Err(error) = self
            .inner
            .ports
            .backend
            .hear_held_calls(&container.id)
            .await
        {
            let (id, reason) = (&container.id, crate::chain(error.as_ref()));
            tracing::warn!("Unable to run the seccomp notifier of container {id} again: {reason}");
        }
    }

    /// Takes the report of a call that was held up.
    pub fn call_held(&self, id: &ContainerId, call: &str) {
        let metric = &crioxide_metrics::get().seccomp_notifier;
        let Some(container) = self.inner.containers.get(id.as_str()) else {
            // It is being made.
            tracing::warn!("Seccomp blocked syscall '{call}' in container {id}");
            metric.add_one([id.as_str(), call]);
            return;
        };
        let name = &container.info.name;
        tracing::info!("Seccomp blocked syscall '{call}' in container {id} ({name})");
        metric.add_one([name, call]);
        let pod = self.inner.pods.get(container.pod.as_str());
        let stops = pod.is_some_and(|pod| action(&pod) == Some(STOP));
        if container.held_calls().note(call, stops) {
            let engine = self.clone();
            tokio::spawn(async move { engine.stop_when_quiet(container).await });
        }
    }

    async fn stop_when_quiet(&self, container: Arc<Container>) {
        loop {
            let end = container.held_calls().end;
            match end {
                Some(end) if end > Instant::now() => sleep_until(end).await,
                _ => break,
            }
        }
        let id = &container.id;
        let message = container.held_calls().message();
        container.change(|state| {
            if state.status != ContainerStatus::Stopped {
                (state.seccomp_killed, state.error) = (true, message);
            }
        });
        // A daemon that dies over the stop is followed by one that has to know why the container ended.
        self.save_state(&container).await;
        tracing::info!("Seccomp notifier timer expired, stopping container {id}");
        if let Err(error) = self.stop(&container, Duration::ZERO).await {
            tracing::error!("Unable to stop container {id}: {error}");
        }
        container.held_calls().end = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_are_counted_and_put_the_end_off() {
        let mut calls = HeldCalls::default();
        assert!(!calls.note("swapoff", false));
        assert!(calls.end.is_none());
        assert!(calls.note("swapoff", true));
        let first = calls.end;
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!calls.note("mount", true), "somebody waits already");
        assert!(calls.end > first);
        assert_eq!(
            calls.message(),
            "Used forbidden syscalls: mount (1x), swapoff (2x)"
        );
    }
}
