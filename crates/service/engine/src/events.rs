//! Events of pods and containers, for readers that follow them instead of listing (evented PLEG).
//!
//! An event carries the statuses of its pod and of all the pod's containers as they were at that moment. Events have
//! one order, in which their times grow. Each reader has the same bounded number of events to fall behind; one that
//! falls further behind is told so and gets nothing more: it has to list, and to subscribe again.

use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

use crioxide_cri_api::v1::{self, ContainerEventType as Kind};
use crioxide_node_records::ContainerState;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{Engine, container::Container, ops::now_nanoseconds, pod::Pod, view};

/// Events that a reader may fall behind.
const BACKLOG: usize = 1000;

type Event = Arc<v1::ContainerEventResponse>;

/// Where events go.
#[derive(Debug)]
pub(crate) struct Events {
    /// Held while an event is made, so that order, times and statuses agree.
    sender: Mutex<Sender>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Sender {
    channel: Option<broadcast::Sender<Event>>,
    last: i64,
}

/// What has been told of a container already, and what has to wait for its start to be told first.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    starting: bool,
    ended_meanwhile: bool,
}

/// A reader of events.
#[derive(Debug)]
pub struct EventStream {
    receiver: broadcast::Receiver<Event>,
    engine: Engine,
}

/// A reader fell too far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventsLost(pub u64);

impl EventStream {
    /// The next event; `None` when the daemon ends.
    ///
    /// # Errors
    /// When events were lost; nothing sensible comes after that.
    pub async fn next(&mut self) -> Option<Result<v1::ContainerEventResponse, EventsLost>> {
        match self.receiver.recv().await {
            Ok(event) => Some(Ok(Arc::unwrap_or_clone(event))),
            Err(RecvError::Closed) => None,
            Err(RecvError::Lagged(count)) => {
                crioxide_metrics::get().events_dropped.add(count);
                let dropped = &self.engine.inner.events.dropped;
                dropped.fetch_add(count, Ordering::Relaxed);
                Some(Err(EventsLost(count)))
            }
        }
    }
}

impl Events {
    /// No events are made unless `enabled`.
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            sender: Mutex::new(Sender {
                channel: enabled.then(|| broadcast::Sender::new(BACKLOG)),
                last: 0,
            }),
            dropped: AtomicU64::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sender> {
        self.sender.lock().expect("no holder of this lock panics")
    }

    /// Sends an event if anybody reads.
    fn send(&self, id: &str, kind: Kind, statuses: impl FnOnce() -> Statuses) {
        let mut sender = self.lock();
        let Some(channel) = sender.channel.clone().filter(|c| c.receiver_count() > 0) else {
            return;
        };
        let created_at = now_nanoseconds().max(sender.last + 1);
        sender.last = created_at;
        let (pod, containers) = statuses();
        // Fails when the last reader has just left.
        let _ = channel.send(Arc::new(v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at,
            pod_sandbox_status: pod,
            containers_statuses: containers,
        }));
    }
}

type Statuses = (Option<v1::PodSandboxStatus>, Vec<v1::ContainerStatus>);

impl Engine {
    /// Follows events from now on; `None` when `enable_pod_events` is off or the daemon ends.
    #[must_use]
    pub fn events(&self) -> Option<EventStream> {
        let receiver = self.inner.events.lock().channel.as_ref()?.subscribe();
        Some(EventStream {
            receiver,
            engine: self.clone(),
        })
    }

    /// Ends all readers' streams.
    pub fn close_events(&self) {
        self.inner.events.lock().channel = None;
    }

    /// How many events readers have lost.
    #[must_use]
    pub fn events_dropped(&self) -> u64 {
        self.inner.events.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn pod_event(&self, pod: &Pod, kind: Kind) {
        if kind == Kind::ContainerStoppedEvent && pod.announce_stop() {
            return;
        }
        self.inner.events.send(pod.id.as_str(), kind, || {
            (Some(view::pod_status(pod)), self.statuses_of(pod, None))
        });
    }

    pub(crate) fn container_event(&self, container: &Container, kind: Kind) {
        // After whatever is being told of it just now.
        let _announced = container.announced();
        self.send_of_container(container, kind, None);
    }

    /// A container is about to run: its end, should it come first, is told after its start.
    pub(crate) fn start_begins(&self, container: &Container) {
        container.announced().starting = true;
    }

    /// It runs; `running` is its state at that moment, which its end may have changed already. `None` if it could not
    /// be started.
    pub(crate) fn start_ended(&self, container: &Container, running: Option<&ContainerState>) {
        let mut announced = container.announced();
        announced.starting = false;
        if let Some(running) = running {
            self.send_of_container(container, Kind::ContainerStartedEvent, Some(running));
        }
        if std::mem::take(&mut announced.ended_meanwhile) || running.is_none() {
            self.send_of_container(container, Kind::ContainerStoppedEvent, None);
        }
    }

    /// Changes the state by `change`, which answers whether that ended the container, and tells it.
    pub(crate) fn end_container(
        &self,
        container: &Container,
        change: impl FnOnce() -> bool,
    ) -> bool {
        // Held all the while: its removal begins with the change and must not be told first.
        let mut announced = container.announced();
        let ended = change();
        if ended && announced.starting {
            announced.ended_meanwhile = true;
        } else if ended {
            self.send_of_container(container, Kind::ContainerStoppedEvent, None);
        }
        ended
    }

    fn send_of_container(&self, container: &Container, kind: Kind, state: Option<&ContainerState>) {
        self.inner.events.send(container.id.as_str(), kind, || {
            match self.inner.pods.get(container.pod.as_str()) {
                Some(pod) => {
                    let own = state.map(|state| (container, state));
                    (Some(view::pod_status(&pod)), self.statuses_of(&pod, own))
                }
                None => (None, Vec::new()),
            }
        });
    }

    /// Statuses of a pod's containers, newest first, one of them in a state of its own. The order matters: of several
    /// attempts the kubelet with evented PLEG takes the first in a pod's status for the last one.
    pub(crate) fn statuses_of(
        &self,
        pod: &Pod,
        own: Option<(&Container, &ContainerState)>,
    ) -> Vec<v1::ContainerStatus> {
        let containers = self.containers_of(pod);
        let statuses = containers.iter().map(|container| match own {
            Some((known, state)) if known.id == container.id => {
                view::container_status_in(container, state)
            }
            _ => view::container_status(container),
        });
        let mut statuses: Vec<_> = statuses.collect();
        statuses.sort_by_key(|status| std::cmp::Reverse(status.created_at));
        statuses
    }
}
