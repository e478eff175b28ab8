//! RunPodSandbox and CreateContainer: whole, or nothing left.

use crate::{
    host::{FakeHost, Fault},
    requests::{container, created, pod, pod_with_infra},
};

const POD_STEPS: [&str; 9] = [
    "labels",
    "records.create",
    "create_log_dir",
    "prepare_cgroup",
    "create_namespaces",
    "network.add",
    "create_files",
    "start_monitor",
    "confinement",
];
const INFRA_STEPS: [&str; 5] = [
    "create_pause_root",
    "save_config",
    "create",
    "start",
    "save_state",
];
const CONTAINER_STEPS: [&str; 7] = [
    "records.create",
    "mount",
    "mount_image",
    "confinement",
    "save_config",
    "create",
    "save_state",
];

#[tokio::test]
async fn a_pod_that_fails_at_any_step_gives_everything_back() {
    for step in POD_STEPS.into_iter().chain(INFRA_STEPS) {
        let (host, engine) = FakeHost::new();
        host.fault_at(step, Fault::Fail);
        let error = engine
            .run_pod(pod_with_infra("pod"), String::new())
            .await
            .expect_err(step);
        assert!(
            error.message().contains(&format!("broken {step}")),
            "{step}: {error}"
        );
        assert_eq!(host.held(), Vec::<String>::new(), "{step}");
        assert!(engine.list_pods(None).is_empty(), "{step}");

        host.no_fault();
        let again = engine.run_pod(pod_with_infra("pod"), String::new()).await;
        again.unwrap_or_else(|error| panic!("again after {step}: {error}"));
    }
}

#[tokio::test]
async fn a_pod_is_undone_in_reverse() {
    let (host, engine) = FakeHost::new();
    host.fault_at("save_state", Fault::Fail);
    let failed = engine.run_pod(pod_with_infra("pod"), String::new()).await;
    failed.expect_err("save_state");
    let of = |word: &str| {
        let log = host.log();
        let words = log.iter().filter_map(|line| line.strip_prefix(word));
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    let (taken, mut given) = (of("take "), of("give "));
    given.reverse();
    // Network, files and monitor are taken side by side, so only their places among the others are certain.
    assert_eq!(taken[..3], ["label", "record", "cgroup"]);
    assert_eq!(given[..3], ["label", "record", "cgroup"]);
    assert_eq!(taken.last().map(String::as_str), Some("infra"));
    assert_eq!(given.last().map(String::as_str), Some("infra"));
    let place = |list: &[String], what: &str| list.iter().position(|x| x == what);
    assert!(place(&given, "namespaces") < place(&given, "network"));
    assert_eq!(given.len(), taken.len());
}

#[tokio::test]
async fn an_undo_that_fails_does_not_stop_the_others() {
    let (host, engine) = FakeHost::new();
    // The name of a step that both fails the pod and its own undo: nothing can give the namespaces back.
    host.fault_at("confinement", Fault::Fail);
    let failed = engine.run_pod(pod("pod"), String::new());
    let (failed, ()) = tokio::join!(failed, async {
        while !host.log().iter().any(|line| line == "confinement") {
            tokio::task::yield_now().await;
        }
        host.fault_at("remove_namespaces", Fault::Fail);
    });
    failed.expect_err("confinement");
    assert_eq!(host.held(), ["namespaces"]);
}

#[tokio::test]
async fn a_container_that_fails_at_any_step_gives_everything_back() {
    for step in CONTAINER_STEPS {
        let (host, engine) = FakeHost::new();
        let id = engine.run_pod(pod("pod"), String::new()).await.unwrap();
        let before = host.held();
        host.fault_at(step, Fault::Fail);
        let error = engine
            .create_container(container(&id, "pod"))
            .await
            .expect_err(step);
        assert!(
            error.message().contains(&format!("broken {step}")),
            "{step}: {error}"
        );
        assert_eq!(host.held(), before, "{step}");
        assert!(engine.list_containers(None).is_empty(), "{step}");

        host.no_fault();
        let again = engine.create_container(container(&id, "pod")).await;
        again.unwrap_or_else(|error| panic!("again after {step}: {error}"));
    }
}

#[tokio::test]
async fn equal_requests_make_one_pod() {
    let (host, engine) = FakeHost::new();
    let requests = (0..8).map(|_| engine.run_pod(pod("pod"), String::new()));
    let mut ids: Vec<_> = futures_util::future::join_all(requests)
        .await
        .into_iter()
        .map(|id| id.expect("run the pod"))
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert_eq!(engine.list_pods(None).len(), 1);
    let made = host
        .log()
        .iter()
        .filter(|line| *line == "records.create")
        .count();
    assert_eq!(made, 1);
    // And later ones find it.
    let later = engine.run_pod(pod("pod"), String::new()).await.unwrap();
    assert_eq!(later, ids[0]);
}

#[tokio::test(start_paused = true)]
async fn what_was_made_is_given_back_by_stop_and_remove() {
    let (host, engine) = FakeHost::new();
    let (pod, _) = created(&engine).await;
    engine.stop_pod(pod.as_str(), None).await.unwrap();
    assert_eq!(
        host.held(),
        [
            "cgroup",
            "container record",
            "image mount",
            "label",
            "mount",
            "process",
            "record"
        ]
    );
    engine.remove_pod(pod.as_str()).await.unwrap();
    assert_eq!(host.held(), Vec::<String>::new());
}
