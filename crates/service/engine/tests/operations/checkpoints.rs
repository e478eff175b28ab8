//! The fake host's checkpoints, and what goes wrong with them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use crioxide_cri_api::v1::{self, ContainerState};
use crioxide_engine::Engine;
use crioxide_engine::ErrorKind;
use crioxide_engine::ports::{
    CheckpointContent, CheckpointOrigin, CheckpointSource, CheckpointTarget, Checkpoints,
    PortResult, RecordDirs, RestoreFiles,
};
use crioxide_names::{ContainerId, PodId};

use crate::{
    host::{FakeHost, Fault},
    requests::{container, created, pod, state},
};

#[async_trait]
impl Checkpoints for FakeHost {
    async fn begin(&self, _: &RecordDirs) -> PortResult<PathBuf> {
        self.step("checkpoint_begin").await?;
        self.take("checkpoint");
        Ok("/work".into())
    }

    async fn collect(&self, _: &ContainerId, _: &Path, _: CheckpointContent) -> PortResult<()> {
        self.step("checkpoint_collect").await
    }

    async fn export(&self, _: &Path, _: &Path) -> PortResult<()> {
        self.step("checkpoint_export").await
    }

    async fn end(&self, _: &RecordDirs) -> PortResult<()> {
        self.give("checkpoint");
        Ok(())
    }

    async fn describe(&self, _: &CheckpointSource) -> PortResult<CheckpointOrigin> {
        self.step("describe").await?;
        Ok(CheckpointOrigin {
            image_name: "busybox".to_owned(),
            mounted: vec!["/etc/hosts".into()],
            ..CheckpointOrigin::default()
        })
    }

    async fn import(&self, _: &CheckpointSource, _: CheckpointTarget) -> PortResult<()> {
        self.step("import").await?;
        self.take("imported");
        Ok(())
    }

    fn imported(&self, dirs: &RecordDirs) -> RestoreFiles {
        RestoreFiles {
            images: dirs.persistent.join("images"),
            work: dirs.persistent.clone(),
        }
    }

    async fn forget(&self, _: &RecordDirs) -> PortResult<()> {
        self.give("imported");
        Ok(())
    }
}

#[tokio::test]
async fn a_checkpoint_leaves_the_container_running_whatever_fails() {
    let (host, engine) = FakeHost::new();
    let (_, id) = created(&engine).await;
    let take = async || {
        let taken = engine.checkpoint_container(id.as_str(), "/c.tar", 0).await;
        taken.map_err(|error| error.message().to_owned())
    };
    let refused = take().await.unwrap_err();
    assert!(refused.ends_with("is not running"), "{refused}");
    engine.start_container(id.as_str()).await.unwrap();
    let before = host.held();
    for step in [
        "checkpoint_begin",
        "pause",
        "checkpoint",
        "checkpoint_collect",
        "checkpoint_export",
    ] {
        host.fault_at(step, Fault::Fail);
        let failed = take().await.unwrap_err();
        assert!(failed.contains(&format!("broken {step}")), "{failed}");
        let log = host.log();
        let last = |name: &str| log.iter().rposition(|done| done == name);
        if step != "checkpoint_begin" && step != "pause" {
            assert!(last("resume") > last("pause"), "{step}: {log:?}");
        }
        assert_eq!(host.held(), before, "{step}");
        assert_eq!(state(&engine, &id).0, ContainerState::ContainerRunning);
    }
    host.no_fault();
    take().await.unwrap();
    assert_eq!(host.held(), before);
    for location in ["", "c.tar", "/"] {
        let refused = engine.checkpoint_container(id.as_str(), location, 0).await;
        let refused = refused.unwrap_err();
        assert!(refused.message().contains("absolute path"), "{refused}");
    }
    let unknown = engine.checkpoint_container("ffff", "/c.tar", 0).await;
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_was_cut_off_lets_the_container_run_on() {
    for step in ["checkpoint", "checkpoint_collect", "checkpoint_export"] {
        let (host, engine) = FakeHost::new();
        let (_, id) = created(&engine).await;
        engine.start_container(id.as_str()).await.unwrap();
        let before = host.held();
        host.fault_at(step, Fault::Hang);
        let hangs = engine.checkpoint_container(id.as_str(), "/c.tar", 0);
        let waited = tokio::time::timeout(Duration::from_secs(3600), hangs).await;
        assert!(waited.is_err(), "it was to hang");
        host.no_fault();

        let next = host.daemon();
        next.restore().await.unwrap();
        let log = host.log();
        let last = |name: &str| log.iter().rposition(|done| done == name);
        assert!(last("resume") > last("pause"), "{step}: {log:?}");
        assert_eq!(host.held(), before, "{step}");
        assert_eq!(state(&next, &id).0, ContainerState::ContainerRunning);
    }
}

/// A pod, and a request for a container that is restored from the image or archive.
async fn restored(engine: &Engine, image: &str) -> (PodId, v1::CreateContainerRequest) {
    let pod_id = engine.run_pod(pod("pod"), String::new()).await.unwrap();
    let mut request = container(&pod_id, "pod");
    let config = request.config.as_mut().unwrap();
    config.image.as_mut().unwrap().image = image.to_owned();
    config.mounts.clear();
    (pod_id, request)
}

fn info(engine: &Engine, id: &ContainerId) -> serde_json::Value {
    let status = engine.container_status(id.as_str(), true).unwrap();
    serde_json::from_str(&status.info["info"]).unwrap()
}

#[tokio::test]
async fn a_checkpoint_is_restored_at_the_start() {
    for image in ["/c.tar", "checkpoint"] {
        let (host, engine) = FakeHost::new();
        let (_, request) = restored(&engine, image).await;
        let id = engine.create_container(request).await.unwrap();
        let before = host.held();
        assert!(before.contains(&"imported".to_owned()));
        assert!(!host.log().contains(&"create".to_owned()));
        assert_eq!(state(&engine, &id).0, ContainerState::ContainerCreated);
        assert_eq!(
            (&info(&engine, &id)["pid"], &info(&engine, &id)["restored"]),
            (&0.into(), &true.into())
        );
        let status = engine.container_status(id.as_str(), false).unwrap();
        assert_eq!(status.status.unwrap().image.unwrap().image, "busybox");

        engine.start_container(id.as_str()).await.unwrap();
        assert_eq!(state(&engine, &id).0, ContainerState::ContainerRunning);
        assert_eq!(info(&engine, &id)["pid"], 43);
        assert!(!host.held().contains(&"imported".to_owned()));
        assert!(!host.log().contains(&"start".to_owned()));
        host.end(&id, 7).await;
        assert_eq!(state(&engine, &id), (ContainerState::ContainerExited, 7));
        engine.remove_container(id.as_str()).await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_restored_leaves_nothing() {
    let (host, engine) = FakeHost::new();
    let (_, request) = restored(&engine, "/c.tar").await;
    let before = host.held();
    for step in [
        "describe",
        "records.create",
        "mount",
        "save_config",
        "import",
        "relabel",
        "save_state",
    ] {
        host.fault_at(step, Fault::Fail);
        let failed = engine.create_container(request.clone()).await.unwrap_err();
        assert!(
            failed.message().contains(&format!("broken {step}")),
            "{failed}"
        );
        assert_eq!(host.held(), before, "{step}");
    }
    host.no_fault();
    let mut other = request.clone();
    other.config.as_mut().unwrap().image.as_mut().unwrap().image = "unknown".to_owned();
    let failed = engine.create_container(other).await.unwrap_err();
    assert!(failed.message().contains("not found"), "{failed}");

    let id = engine.create_container(request).await.unwrap();
    host.fault_at("restore", Fault::Fail);
    let failed = engine.start_container(id.as_str()).await.unwrap_err();
    assert!(
        failed.message().starts_with("failed to restore container"),
        "{failed}"
    );
    assert_eq!(state(&engine, &id).0, ContainerState::ContainerExited);
    assert!(!host.held().contains(&"imported".to_owned()));
    host.no_fault();
    engine.remove_container(id.as_str()).await.unwrap();
    assert_eq!(host.held(), before);
}

#[tokio::test]
async fn one_that_ends_at_once_has_ended() {
    let (host, engine) = FakeHost::new();
    let (_, request) = restored(&engine, "/c.tar").await;
    let id = engine.create_container(request).await.unwrap();
    *host.exit_in_start.lock().unwrap() = Some(3);
    engine.start_container(id.as_str()).await.unwrap();
    assert_eq!(state(&engine, &id), (ContainerState::ContainerExited, 3));
}

#[tokio::test]
async fn one_that_waits_for_its_start_is_stopped_without_a_signal() {
    let (host, engine) = FakeHost::new();
    let (_, request) = restored(&engine, "/c.tar").await;
    let id = engine.create_container(request).await.unwrap();
    let grace = Duration::from_secs(10);
    engine.stop_container(id.as_str(), grace).await.unwrap();
    assert_eq!(state(&engine, &id), (ContainerState::ContainerExited, 137));
    assert!(host.signals.lock().unwrap().is_empty());
    assert!(engine.start_container(id.as_str()).await.is_err());
    engine.remove_container(id.as_str()).await.unwrap();
    assert!(!host.held().contains(&"imported".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_daemon_before_or_during_a_restore() {
    let (host, engine) = FakeHost::new();
    let (_, request) = restored(&engine, "/c.tar").await;
    let id = engine.create_container(request).await.unwrap();
    let next = host.daemon();
    next.restore().await.unwrap();
    assert_eq!(state(&next, &id).0, ContainerState::ContainerCreated);

    host.fault_at("restore", Fault::Hang);
    let hangs = next.start_container(id.as_str());
    let waited = tokio::time::timeout(Duration::from_secs(3600), hangs).await;
    assert!(waited.is_err(), "it was to hang");
    host.no_fault();
    let last = host.daemon();
    last.restore().await.unwrap();
    assert_eq!(state(&last, &id).0, ContainerState::ContainerExited);
    assert!(host.log().contains(&"delete".to_owned()));
    assert!(!host.held().contains(&"imported".to_owned()));
}
