//! Every kill for memory is reported as one: of the first process, of another one, right after the start, many at once.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{TestNode, requirements, skip_unless};
use futures_util::future::try_join_all;
use rustix::process::{Pid, Signal, kill_process};

use super::resources;
use crate::scene::{Scene, possible, systemd_driver};
use crate::survival::restart::container_pid;

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

/// systemd removes the scope of a container as soon as it is empty, and with it the count of its kills.
#[tokio::test(flavor = "multi_thread")]
async fn found_out_after_the_cgroup_has_gone() -> Result<()> {
    skip_unless!(possible(), removed_by_systemd());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let pod = node.pod("late");
    let pod_id = node.client.run_pod(&pod, "").await?;
    for (name, script, reason, code) in [
        ("for-memory", "exec tail /dev/zero", "OOMKilled", 137),
        // What happened to the first must not be taken for this one's.
        ("otherwise", "exit 3", "Error", 3),
        ("child", "tail /dev/zero & wait; exit 4", "OOMKilled", 4),
    ] {
        let script = format!("until [ -e /go ]; do sleep 0.05; done; {script}");
        let container = greedy(node, &scene.image, name, &["sh", "-c", &script], LITTLE)?;
        let id = node.client.create(&pod_id, &container, &pod).await?;
        node.client.start(&id).await?;
        let pid = container_pid(node, &id).await?;
        let cgroup = memory_cgroup(pid)?;
        ensure!(cgroup.is_dir(), "{}", cgroup.display());
        let monitor = parent(pid)?;
        kill_process(monitor, Signal::STOP)?;
        let gone = async {
            std::fs::write(format!("/proc/{pid}/root/go"), "")?;
            eventually("the cgroup is removed", async || {
                ensure!(!cgroup.exists(), "{}", cgroup.display());
                Ok(())
            })
            .await
        };
        let gone = gone.await;
        kill_process(monitor, Signal::CONT)?;
        gone?;
        let status = node.exited(&id).await?;
        ensure!(
            status.reason == reason && status.exit_code == code,
            "{name}: {status:?}"
        );
    }
    scene.node.finish().await
}

/// The directory where a process's memory is accounted.
fn memory_cgroup(pid: i32) -> Result<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let of = |root: &str, middle: &str| {
        let path = text.lines().find_map(|line| line.split_once(middle))?.1;
        Some(Path::new(root).join(path.trim_start_matches('/')))
    };
    of("/sys/fs/cgroup/memory", ":memory:")
        .or_else(|| of("/sys/fs/cgroup", "0::"))
        .context("no memory cgroup")
}

fn removed_by_systemd() -> Result<(), String> {
    match systemd_driver() {
        true => Ok(()),
        false => Err("needs systemd as the cgroup driver".to_owned()),
    }
}

/// The parent of a container's first process, which is its monitor.
fn parent(pid: i32) -> Result<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    let parent = parent.context("no parent")?.trim().parse()?;
    Pid::from_raw(parent).context("no parent")
}
