//! StopContainer on paused time.

use std::{sync::Arc, time::Duration};

use crioxide_cri_api::v1::ContainerState;
use crioxide_engine::Engine;
use crioxide_names::ContainerId;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    host::FakeHost,
    requests::{created, state},
};

async fn running() -> (Arc<FakeHost>, Engine, ContainerId) {
    let (host, engine) = FakeHost::new();
    let (_, id) = created(&engine).await;
    engine.start_container(id.as_str()).await.unwrap();
    (host, engine, id)
}

fn stop(engine: &Engine, id: &ContainerId, seconds: u64) -> JoinHandle<()> {
    let (engine, id) = (engine.clone(), id.clone());
    tokio::spawn(async move {
        let grace = Duration::from_secs(seconds);
        engine.stop_container(id.as_str(), grace).await.unwrap();
    })
}

/// Signals sent, each with whole seconds since `begin`.
fn signals(host: &FakeHost, begin: Instant) -> Vec<(i32, u64)> {
    let signals = host.signals.lock().unwrap();
    let since = |at: &Instant| at.duration_since(begin).as_secs();
    signals
        .iter()
        .map(|(signal, at)| (*signal, since(at)))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn later_requests_only_bring_the_kill_forward() {
    let (host, engine, id) = running().await;
    let begin = Instant::now();
    let first = stop(&engine, &id, 60);
    sleep(Duration::from_secs(5)).await;
    let shorter = stop(&engine, &id, 2);
    sleep(Duration::from_secs(1)).await;
    let longer = stop(&engine, &id, 100);
    for request in [first, shorter, longer] {
        request.await.unwrap();
    }
    assert_eq!(signals(&host, begin), [(15, 0), (9, 7)]);
    assert_eq!(state(&engine, &id), (ContainerState::ContainerExited, 137));
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_in_time_is_not_killed() {
    let (host, engine, id) = running().await;
    let begin = Instant::now();
    let request = stop(&engine, &id, 30);
    sleep(Duration::from_secs(3)).await;
    host.end(&id, 0).await;
    request.await.unwrap();
    assert_eq!(begin.elapsed().as_secs(), 3);
    assert_eq!(signals(&host, begin), [(15, 0)]);
}

#[tokio::test(start_paused = true)]
async fn no_grace_is_a_kill_at_once() {
    let (host, engine, id) = running().await;
    let begin = Instant::now();
    stop(&engine, &id, 0).await.unwrap();
    assert_eq!(signals(&host, begin), [(9, 0)]);
    // Once more is no error and sends nothing.
    stop(&engine, &id, 0).await.unwrap();
    assert_eq!(signals(&host, begin).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_killed_is_told_of() {
    let (host, engine, id) = running().await;
    host.immortal
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let begin = Instant::now();
    let answer = engine
        .stop_container(id.as_str(), Duration::from_secs(2))
        .await;
    let message = answer.unwrap_err().to_string();
    assert!(message.contains("process 42 sleeps for ever"), "{message}");
    assert_eq!(begin.elapsed().as_secs(), 62);
    assert_eq!(state(&engine, &id).0, ContainerState::ContainerRunning);
    // The attempts have not ended with the answer.
    host.immortal
        .store(false, std::sync::atomic::Ordering::Relaxed);
    stop(&engine, &id, 0).await.unwrap();
    assert_eq!(state(&engine, &id), (ContainerState::ContainerExited, 137));
}
