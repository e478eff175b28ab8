//! Events of pods and containers, as evented PLEG follows them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::{self, ContainerEventType as Kind, ContainerState};
use crioxide_test_support::NodeOptions;
use crioxide_test_support::skip_unless;
use tonic::Streaming;

use crate::scene::{Scene, possible};

type Events = Streaming<v1::ContainerEventResponse>;

async fn scene_with_events() -> Result<Scene> {
    Scene::start_with(NodeOptions {
        runtime_keys: "enable_pod_events = true\n".to_owned(),
        ..NodeOptions::default()
    })
    .await
}

async fn follow(scene: &Scene) -> Result<Events> {
    let mut runtime = scene.node.client.runtime.clone();
    let answer = runtime
        .get_container_events(v1::GetEventsRequest {})
        .await?;
    Ok(answer.into_inner())
}

async fn next(events: &mut Events) -> Result<v1::ContainerEventResponse> {
    tokio::time::timeout(Duration::from_secs(60), events.message())
        .await
        .context("no event came")??
        .context("the events ended")
}

async fn pod_status(scene: &Scene, pod: &str) -> Result<v1::PodSandboxStatusResponse> {
    let status = v1::PodSandboxStatusRequest {
        pod_sandbox_id: pod.to_owned(),
        verbose: false,
    };
    let mut runtime = scene.node.client.runtime.clone();
    Ok(runtime.pod_sandbox_status(status).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn tell_the_life_of_a_pod() -> Result<()> {
    skip_unless!(possible());
    let scene = scene_with_events().await?;
    let node = &scene.node;
    let (mut events, mut others) = (follow(&scene).await?, follow(&scene).await?);
    // It ends at once and by itself.
    let container = node.container("main", &scene.image, &["sh", "-c", "exit 3"]);
    let (pod, id) = node.run(&node.pod("told"), &container, "").await?;
    let ended = node.exited(&id).await?;
    let status = pod_status(&scene, &pod).await?;
    ensure!(
        status.timestamp > 0 && status.containers_statuses == [ended],
        "{status:?}"
    );
    node.client.remove(&id).await?;
    node.client.stop_pod(&pod).await?;
    node.client.remove_pod(&pod).await?;

    let mut last = 0;
    for (of, kind, state) in [
        (&pod, Kind::ContainerCreatedEvent, None),
        (&pod, Kind::ContainerStartedEvent, None),
        (
            &id,
            Kind::ContainerCreatedEvent,
            Some(ContainerState::ContainerCreated),
        ),
        (
            &id,
            Kind::ContainerStartedEvent,
            Some(ContainerState::ContainerRunning),
        ),
        (
            &id,
            Kind::ContainerStoppedEvent,
            Some(ContainerState::ContainerExited),
        ),
        (&id, Kind::ContainerDeletedEvent, None),
        (&pod, Kind::ContainerStoppedEvent, None),
        (&pod, Kind::ContainerDeletedEvent, None),
    ] {
        let event = next(&mut events).await?;
        ensure!(
            event.container_id == *of && event.container_event_type() == kind,
            "{event:?}"
        );
        let container = event
            .containers_statuses
            .iter()
            .find(|status| status.id == id);
        ensure!(
            container.map(v1::ContainerStatus::state) == state,
            "{event:?}"
        );
        let of_pod = event.pod_sandbox_status.as_ref().context("a pod status")?;
        ensure!(of_pod.id == pod && of_pod.metadata.is_some(), "{event:?}");
        ensure!(event.created_at > last, "times grow");
        last = event.created_at;
        ensure!(next(&mut others).await? == event, "each reader gets all");
    }
    scene.node.finish().await
}

/// The kubelet takes the first status of a container's name for that of its last attempt.
#[tokio::test(flavor = "multi_thread")]
async fn and_statuses_have_the_last_attempt_first() -> Result<()> {
    skip_unless!(possible());
    let scene = scene_with_events().await?;
    let node = &scene.node;
    let config = node.pod("attempts");
    let pod = node.client.run_pod(&config, "").await?;
    let mut events = follow(&scene).await?;
    let mut container = node.container("main", &scene.image, &["true"]);
    for attempt in 0..6 {
        container.metadata.as_mut().context("metadata")?.attempt = attempt;
        node.client.create(&pod, &container, &config).await?;
        let of_pod = pod_status(&scene, &pod).await?;
        let event = next(&mut events).await?;
        for statuses in [of_pod.containers_statuses, event.containers_statuses] {
            let attempts = statuses
                .iter()
                .map(|status| status.metadata.as_ref().map(|metadata| metadata.attempt));
            ensure!(
                attempts.eq((0..=attempt).rev().map(Some)),
                "after {attempt}: {statuses:?}"
            );
        }
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn are_none_unless_configured() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    ensure!(follow(&scene).await?.message().await?.is_none());
    scene.node.finish().await
}
