//! Events: complete, in order, with the statuses of their moment.

use crioxide_cri_api::v1::{
    ContainerEventResponse, ContainerEventType as Kind, ContainerState, PodSandboxState,
};
use crioxide_engine::{EventStream, EventsLost};

use crate::{
    host::{FakeHost, Fault},
    requests::{created, pod},
};

async fn next(events: &mut EventStream) -> ContainerEventResponse {
    events.next().await.unwrap().unwrap()
}

fn state_of(event: &ContainerEventResponse, id: &str) -> Option<ContainerState> {
    let mut statuses = event.containers_statuses.iter();
    statuses.find(|status| status.id == id).map(|s| s.state())
}

#[tokio::test]
async fn a_life_is_told_in_order() {
    let (_, engine) = FakeHost::with_events();
    let (mut events, mut second) = (engine.events().unwrap(), engine.events().unwrap());
    let (pod, id) = created(&engine).await;
    let (pod, id) = (pod.as_str(), id.as_str());
    engine.start_container(id).await.unwrap();
    engine
        .stop_container(id, std::time::Duration::ZERO)
        .await
        .unwrap();
    engine.remove_container(id).await.unwrap();
    engine.stop_pod(pod, None).await.unwrap();
    engine.remove_pod(pod).await.unwrap();
    let expected = [
        (pod, Kind::ContainerCreatedEvent, None),
        (pod, Kind::ContainerStartedEvent, None),
        (
            id,
            Kind::ContainerCreatedEvent,
            Some(ContainerState::ContainerCreated),
        ),
        (
            id,
            Kind::ContainerStartedEvent,
            Some(ContainerState::ContainerRunning),
        ),
        (
            id,
            Kind::ContainerStoppedEvent,
            Some(ContainerState::ContainerExited),
        ),
        (id, Kind::ContainerDeletedEvent, None),
        (pod, Kind::ContainerStoppedEvent, None),
        (pod, Kind::ContainerDeletedEvent, None),
    ];
    let mut last = 0;
    for (of, kind, state) in expected {
        let event = next(&mut events).await;
        assert_eq!(
            (event.container_id.as_str(), event.container_event_type()),
            (of, kind)
        );
        assert_eq!(state_of(&event, id), state, "{event:?}");
        let status = event.pod_sandbox_status.as_ref().unwrap();
        let ready = match (of == pod, kind) {
            (true, Kind::ContainerStoppedEvent | Kind::ContainerDeletedEvent) => {
                PodSandboxState::SandboxNotready
            }
            _ => PodSandboxState::SandboxReady,
        };
        assert_eq!(
            (status.id.as_str(), status.state()),
            (pod, ready),
            "{event:?}"
        );
        assert!(event.created_at > last, "times grow");
        last = event.created_at;
        assert_eq!(next(&mut second).await, event, "all readers get the same");
    }
    engine.close_events();
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn an_end_while_starting_is_told_after_the_start() {
    let (host, engine) = FakeHost::with_events();
    let (_, id) = created(&engine).await;
    let mut events = engine.events().unwrap();
    *host.exit_in_start.lock().unwrap() = Some(7);
    engine.start_container(id.as_str()).await.unwrap();
    let started = next(&mut events).await;
    assert_eq!(started.container_event_type(), Kind::ContainerStartedEvent);
    assert_eq!(
        state_of(&started, id.as_str()),
        Some(ContainerState::ContainerRunning)
    );
    let stopped = next(&mut events).await;
    assert_eq!(stopped.container_event_type(), Kind::ContainerStoppedEvent);
    assert_eq!(stopped.containers_statuses[0].exit_code, 7);
}

#[tokio::test]
async fn a_start_that_fails_is_an_end() {
    let (host, engine) = FakeHost::with_events();
    let (_, id) = created(&engine).await;
    let mut events = engine.events().unwrap();
    host.fault_at("start", Fault::Fail);
    engine
        .start_container(id.as_str())
        .await
        .expect_err("start");
    let event = next(&mut events).await;
    assert_eq!(event.container_event_type(), Kind::ContainerStoppedEvent);
    assert_eq!(
        state_of(&event, id.as_str()),
        Some(ContainerState::ContainerExited)
    );
}

#[tokio::test]
async fn a_slow_reader_is_told_what_it_lost() {
    let (_, engine) = FakeHost::with_events();
    let mut slow = engine.events().unwrap();
    // Created, started, stopped, deleted: four events each.
    for _ in 0..260 {
        let id = engine.run_pod(pod("a"), String::new()).await.unwrap();
        engine.remove_pod(id.as_str()).await.unwrap();
    }
    let lost = slow.next().await.unwrap().unwrap_err();
    assert!(matches!(lost, EventsLost(16..=40)), "{lost:?}");
    assert_eq!(engine.events_dropped(), lost.0);
}

#[tokio::test]
async fn without_pod_events_there_is_nothing_to_follow() {
    let (_, engine) = FakeHost::new();
    assert!(engine.events().is_none());
    let (id, _) = created(&engine).await;
    let status = engine.pod_status(id.as_str(), false).unwrap();
    assert_eq!((status.timestamp, status.containers_statuses.len()), (0, 0));
    let (_, engine) = FakeHost::with_events();
    let (id, _) = created(&engine).await;
    let status = engine.pod_status(id.as_str(), false).unwrap();
    assert!(status.timestamp > 0 && status.containers_statuses.len() == 1);
}
