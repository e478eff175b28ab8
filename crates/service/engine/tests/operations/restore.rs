//! A daemon that died: its successor finds whole objects, or gives back what is left of half ones.

use std::time::Duration;

use crioxide_cri_api::v1::ContainerState;
use crioxide_engine::{Engine, Restored};

use crate::{
    host::{FakeHost, Fault},
    requests::{container, created, pod, pod_with_infra, state},
};

/// Begins something, and waits until it can get no further.
async fn cut_off(work: impl Future) {
    let waited = tokio::time::timeout(Duration::from_secs(3600), work).await;
    assert!(waited.is_err(), "it was to hang");
}

#[tokio::test(start_paused = true)]
async fn a_pod_cut_off_at_any_step_is_gone() {
    let steps = [
        "create_log_dir",
        "prepare_cgroup",
        "create_namespaces",
        "network.add",
        "create_files",
        "start_monitor",
        "confinement",
        "save_config",
        "create",
        "start",
        "save_state",
    ];
    for step in steps {
        let (host, engine) = FakeHost::new();
        host.fault_at(step, Fault::Hang);
        cut_off(engine.run_pod(pod_with_infra("pod"), String::new())).await;
        host.no_fault();

        let next = host.daemon();
        let found = next.restore().await.unwrap();
        assert_eq!(
            found,
            Restored {
                removed: 1,
                ..Restored::default()
            },
            "{step}"
        );
        assert_eq!(host.held(), Vec::<String>::new(), "{step}");
        let again = next.run_pod(pod_with_infra("pod"), String::new()).await;
        again.unwrap_or_else(|error| panic!("again after {step}: {error}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_cut_off_at_any_step_is_gone_and_its_pod_stays() {
    for step in [
        "mount",
        "confinement",
        "save_config",
        "create",
        "save_state",
    ] {
        let (host, engine) = FakeHost::new();
        let id = engine.run_pod(pod("pod"), String::new()).await.unwrap();
        let before = host.held();
        host.fault_at(step, Fault::Hang);
        cut_off(engine.create_container(container(&id, "pod"))).await;
        host.no_fault();

        let next = host.daemon();
        let found = next.restore().await.unwrap();
        assert_eq!(
            (found.pods, found.containers, found.removed),
            (1, 0, 1),
            "{step}"
        );
        assert_eq!(host.held(), before, "{step}");
        let again = next.create_container(container(&id, "pod")).await;
        again.unwrap_or_else(|error| panic!("again after {step}: {error}"));
    }
}

#[tokio::test]
async fn whole_ones_are_as_they_were() {
    let (host, engine) = FakeHost::new();
    let (_, id) = created(&engine).await;
    engine.start_container(id.as_str()).await.unwrap();
    let held = host.held();

    let next = host.daemon();
    let found = next.restore().await.unwrap();
    assert_eq!((found.pods, found.containers, found.removed), (1, 1, 0));
    assert_eq!(host.held(), held);
    assert_eq!(state(&next, &id).0, ContainerState::ContainerRunning);
    let pods = |engine: &Engine| engine.list_pods(None).decode_entries().unwrap();
    assert_eq!(pods(&engine), pods(&next));
    let containers = |engine: &Engine| engine.list_containers(None).decode_entries().unwrap();
    assert_eq!(containers(&engine), containers(&next));
}

#[tokio::test]
async fn a_process_that_nobody_saw_end_has_ended() {
    let (host, engine) = FakeHost::new();
    let (_, id) = created(&engine).await;
    engine.start_container(id.as_str()).await.unwrap();
    host.alive.lock().unwrap().clear();

    let next = host.daemon();
    next.restore().await.unwrap();
    assert_eq!(state(&next, &id), (ContainerState::ContainerExited, 255));
}

#[tokio::test]
async fn a_container_without_its_pod_is_removed() {
    let (host, engine) = FakeHost::new();
    let (pod, _) = created(&engine).await;
    host.records.lock().unwrap().remove(pod.as_str());

    let next = host.daemon();
    let found = next.restore().await.unwrap();
    assert_eq!((found.pods, found.containers, found.removed), (0, 0, 1));
    let left = host.held();
    for what in ["container record", "mount", "process"] {
        assert!(!left.contains(&what.to_owned()), "{what}");
    }
}
