//! What most tests begin with: a registry with busybox, and a node that has pulled it.

pub(crate) mod held;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use crioxide_test_support::image::{Format, ImageBuilder, busybox_program};
use crioxide_test_support::{NodeOptions, ScriptedRegistry, TestNode, requirements};
use tonic::{Code, Status};

/// A node with an image.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) node: TestNode,
    pub(crate) registry: ScriptedRegistry,
    /// The name of a pulled busybox image.
    pub(crate) image: String,
}

impl Scene {
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(NodeOptions::default()).await
    }

    pub(crate) async fn start_with(mut options: NodeOptions) -> Result<Self> {
        let registry = ScriptedRegistry::start().await?;
        let image = registry.add(
            "test/busybox",
            "1",
            &ImageBuilder::busybox(Format::Oci)?.build()?,
        );
        options.insecure_registries.push(registry.host());
        let node = TestNode::start(options).await?;
        node.client.pull(&image).await.context("PullImage")?;
        Ok(Self {
            node,
            registry,
            image,
        })
    }
}

/// What every test here needs.
pub(crate) fn possible() -> Result<(), String> {
    requirements::root()?;
    requirements::daemon()?;
    busybox_program()?;
    Ok(())
}

/// A host whose controllers are all in the unified hierarchy.
pub(crate) fn cgroup_v2() -> Result<(), String> {
    match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => Ok(()),
        false => Err("needs cgroup v2".to_owned()),
    }
}

/// Whether nodes of the tests have the systemd cgroup driver.
pub(crate) fn systemd_driver() -> bool {
    std::env::var("CRIOXIDE_TEST_CGROUP_DRIVER").is_ok_and(|driver| driver == "systemd")
}

/// Fails unless the call was refused with this code and a message that holds every one of `parts`.
pub(crate) fn refused<T: std::fmt::Debug>(
    answer: Result<T, Status>,
    codes: &[Code],
    parts: &[&str],
) -> Result<()> {
    let status = match answer {
        Ok(value) => anyhow::bail!("was answered with {value:?} instead of being refused"),
        Err(status) => status,
    };
    eprintln!("refused: {:?}: {}", status.code(), status.message());
    ensure!(
        codes.contains(&status.code()),
        "{:?} is none of {codes:?}: {}",
        status.code(),
        status.message()
    );
    for part in parts {
        ensure!(
            status.message().contains(part),
            "the message does not name `{part}`: {}",
            status.message()
        );
    }
    Ok(())
}
