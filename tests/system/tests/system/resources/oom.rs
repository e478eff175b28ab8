//! Every kill for memory is reported as one: of the first process, of another one, right after the start, many at once.

use anyhow::{Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::{TestNode, requirements, skip_unless};
use futures_util::future::try_join_all;

use super::resources;
use crate::scene::{Scene, possible};

/// Containers that run out of memory at the same time; the long version sets it.
const AT_ONCE: &str = "CRIOXIDE_TEST_OOMS";
/// So little that it is used up within milliseconds, and the least that is accepted.
const LITTLE: i64 = 12 << 20;
/// With less, runc itself, which is in the cgroup while it makes the container, is what the kernel kills on some hosts.
pub(crate) const ENOUGH_FOR_RUNC: i64 = 48 << 20;

fn greedy(
    node: &TestNode,
    image: &str,
    name: &str,
    command: &[&str],
    limit: i64,
) -> Result<v1::ContainerConfig> {
    let mut container = node.container(name, image, command);
    resources(&mut container)?.memory_limit_in_bytes = limit;
    resources(&mut container)?.memory_swap_limit_in_bytes = limit;
    Ok(container)
}

pub(crate) async fn all_kinds(handler: &str, limit: i64) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let pod = node.pod("kinds");
    let pod_id = node.client.run_pod(&pod, handler).await?;
    // `tail` keeps the whole last line, and this one has no end.
    for (name, command, code) in [
        ("first", &["tail", "/dev/zero"][..], 137),
        ("child", &["sh", "-c", "tail /dev/zero; exit 5"], 5),
        (
            "outlived",
            &["sh", "-c", "tail /dev/zero & wait; exit 0"],
            0,
        ),
        (
            "several",
            &[
                "sh",
                "-c",
                "tail /dev/zero & tail /dev/zero & tail /dev/zero; wait; exit 6",
            ],
            6,
        ),
    ] {
        let container = greedy(node, &scene.image, name, command, limit)?;
        let id = node.client.create(&pod_id, &container, &pod).await?;
        node.client.start(&id).await?;
        let status = node.exited(&id).await?;
        ensure!(
            status.reason == "OOMKilled" && status.exit_code == code,
            "{name}: {status:?}"
        );
    }
    // The same code, but not for memory.
    let container = node.container("other", &scene.image, &["sleep", "600"]);
    let id = node.client.create(&pod_id, &container, &pod).await?;
    node.client.start(&id).await?;
    node.client.stop(&id, 0).await?;
    let status = node.exited(&id).await?;
    ensure!(
        status.reason == "Error" && status.exit_code == 137,
        "{status:?}"
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_first_process_and_of_others() -> Result<()> {
    skip_unless!(possible());
    all_kinds("", LITTLE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_by_runc() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    all_kinds("runc", ENOUGH_FOR_RUNC).await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once() -> Result<()> {
    skip_unless!(possible());
    let number = std::env::var(AT_ONCE)
        .ok()
        .and_then(|text| text.parse().ok());
    let number: usize = number.unwrap_or(20);
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut created = Vec::new();
    // Two in each pod, which share a monitor.
    for pair in 0..number.div_ceil(2) {
        let pod = node.pod(&format!("pod{pair}"));
        let pod_id = node.client.run_pod(&pod, "").await?;
        for name in ["one", "two"] {
            let container = greedy(node, &scene.image, name, &["tail", "/dev/zero"], LITTLE)?;
            created.push(node.client.create(&pod_id, &container, &pod).await?);
        }
    }
    try_join_all(created.iter().map(|id| node.client.start(id))).await?;
    for id in &created {
        let status = node.exited(id).await?;
        ensure!(
            status.reason == "OOMKilled" && status.exit_code == 137,
            "{status:?}"
        );
    }
    scene.node.finish().await
}
