//! Ends of processes, at the moments that are easy to get wrong.

use crioxide_cri_api::v1::ContainerState;

use crate::{
    host::{FakeHost, Fault},
    requests::{created, state},
};

#[tokio::test]
async fn an_exit_before_the_start_is_kept() {
    let (host, engine) = FakeHost::new();
    let (_, id) = created(&engine).await;
    host.end(&id, 3).await;
    let refused = engine
        .start_container(id.as_str())
        .await
        .expect_err("start");
    assert!(
        refused
            .message()
            .contains("is not in created state: stopped"),
        "{refused}"
    );
    assert_eq!(state(&engine, &id), (ContainerState::ContainerExited, 3));
}

#[tokio::test]
async fn an_exit_while_starting_is_kept() {
    let (host, engine) = FakeHost::new();
    let (_, id) = created(&engine).await;
    *host.exit_in_start.lock().unwrap() = Some(7);
    engine.start_container(id.as_str()).await.unwrap();
    assert_eq!(state(&engine, &id), (ContainerState::ContainerExited, 7));
    // What is on disk says the same to the next daemon.
    let next = host.daemon();
    next.restore().await.unwrap();
    assert_eq!(state(&next, &id), (ContainerState::ContainerExited, 7));
}

#[tokio::test]
async fn a_second_report_changes_nothing() {
    let (host, engine) = FakeHost::new();
    let (_, id) = created(&engine).await;
    engine.start_container(id.as_str()).await.unwrap();
    host.end(&id, 5).await;
    engine
        .container_exited(crate::processes::ended(&id, 6))
        .await;
    assert_eq!(state(&engine, &id), (ContainerState::ContainerExited, 5));
}

#[tokio::test]
async fn a_start_that_fails_ends_the_container() {
    let (host, engine) = FakeHost::new();
    let (_, id) = created(&engine).await;
    host.fault_at("start", Fault::Fail);
    engine
        .start_container(id.as_str())
        .await
        .expect_err("start");
    assert_eq!(state(&engine, &id), (ContainerState::ContainerExited, 255));
    assert!(!host.held().contains(&"process".to_owned()));
}
