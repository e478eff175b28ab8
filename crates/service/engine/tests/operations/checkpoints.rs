//! The fake host's checkpoints, and what goes wrong with them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use crioxide_cri_api::v1::ContainerState;
use crioxide_engine::ErrorKind;
use crioxide_engine::ports::{CheckpointContent, Checkpoints, PortResult, RecordDirs};
use crioxide_names::ContainerId;

use crate::{
    host::{FakeHost, Fault},
    requests::{created, state},
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
