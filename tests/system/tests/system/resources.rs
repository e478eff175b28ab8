//! Limits that bite, and what is reported of their use.

mod enforced;
pub(crate) mod metrics;
pub(crate) mod oom;
mod usage;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::skip_unless;
use crioxide_test_support::waiting::eventually;
use tonic::Code;

use crate::scene::{Scene, possible, refused};

#[tokio::test(flavor = "multi_thread")]
async fn too_much_memory_is_an_oom_kill() -> Result<()> {
    skip_unless!(possible());
    oom_kill("").await
}

/// The kernel's kill is reported as what it is.
pub(crate) async fn oom_kill(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut container = node.container(
        "main",
        &scene.image,
        &[
            "sh",
            "-c",
            "head -c 200000000 /dev/zero | tail -c 199999999 > /dev/null; exit $?",
        ],
    );
    resources(&mut container)?.memory_limit_in_bytes = 32 << 20;
    resources(&mut container)?.memory_swap_limit_in_bytes = 32 << 20;
    let (_, id) = node.run(&node.pod("greedy"), &container, handler).await?;
    let status = node.exited(&id).await?;
    ensure!(
        status.reason == "OOMKilled" && status.exit_code != 0,
        "{status:?}"
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_set_and_updated() -> Result<()> {
    skip_unless!(possible());
    limits("").await
}

pub(crate) async fn limits(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    resources(&mut container)?.memory_limit_in_bytes = 64 << 20;
    resources(&mut container)?.cpu_period = 100_000;
    resources(&mut container)?.cpu_quota = 50_000;
    let (pod, id) = node.run(&node.pod("limits"), &container, handler).await?;
    let status = node.client.container_status(&id).await?;
    let linux = status
        .resources
        .and_then(|resources| resources.linux)
        .context("the status holds the limits")?;
    ensure!(
        linux.memory_limit_in_bytes == 64 << 20 && linux.cpu_quota == 50_000,
        "{linux:?}"
    );

    let request = v1::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(v1::LinuxContainerResources {
            memory_limit_in_bytes: 96 << 20,
            ..Default::default()
        }),
        ..Default::default()
    };
    node.client
        .runtime
        .clone()
        .update_container_resources(request)
        .await?;
    let status = node.client.container_status(&id).await?;
    let linux = status
        .resources
        .and_then(|resources| resources.linux)
        .context("the status holds the limits")?;
    ensure!(linux.memory_limit_in_bytes == 96 << 20, "{linux:?}");
    ensure!(
        linux.cpu_quota == 50_000,
        "what was not asked for stays: {linux:?}"
    );

    // A limit below what is used would be a kill.
    let request = v1::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(v1::LinuxContainerResources {
            memory_limit_in_bytes: 4096,
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut runtime = node.client.runtime.clone();
    let answer = runtime.update_container_resources(request).await;
    refused(answer, &[Code::Unknown], &["cannot decrease memory limit"])?;
    let status = node.client.container_status(&id).await?;
    let limit = status.resources.and_then(|resources| resources.linux);
    ensure!(limit.is_some_and(|linux| linux.memory_limit_in_bytes == 96 << 20));

    let request = v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: pod,
        ..Default::default()
    };
    runtime.update_pod_sandbox_resources(request).await?;
    let request = v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: "ffff".to_owned(),
        ..Default::default()
    };
    let answer = runtime.update_pod_sandbox_resources(request).await;
    refused(answer, &[Code::NotFound], &["ffff"])?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn use_is_reported() -> Result<()> {
    skip_unless!(possible());
    usage("").await
}

pub(crate) async fn usage(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let container = node.container("main", &scene.image, &["sh", "-c", "while :; do :; done"]);
    let (_, id) = node.run(&node.pod("busy"), &container, handler).await?;
    let used = async || -> Result<u64> {
        let stats = node
            .client
            .container_stats(&id)
            .await?
            .context("stats of a running container")?;
        let memory = stats
            .memory
            .and_then(|memory| memory.working_set_bytes)
            .map_or(0, |value| value.value);
        ensure!(memory > 0, "it uses memory");
        let cpu = stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds);
        Ok(cpu.map_or(0, |value| value.value))
    };
    let first = used().await?;
    eventually("the processor time grows", async || {
        ensure!(used().await? > first);
        Ok(())
    })
    .await?;
    scene.node.finish().await
}

fn resources(container: &mut v1::ContainerConfig) -> Result<&mut v1::LinuxContainerResources> {
    let linux = container
        .linux
        .as_mut()
        .context("a container of the tests is a Linux container")?;
    linux
        .resources
        .as_mut()
        .context("a container of the tests has limits")
}
