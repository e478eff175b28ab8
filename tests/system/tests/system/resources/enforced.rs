//! Limits that are felt: what would exceed them is paged out, pushed back, refused or killed.

use anyhow::{Context, Result, ensure};
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{TestNode, requirements, skip_unless};

use super::resources;
use crate::scene::{Scene, cgroup_v2, possible, systemd_driver};
use crate::security::output;
use crate::smoke::crun_works_here;
use crate::survival::service::{systemctl, systemd};

const MIB: i64 = 1 << 20;
/// Memory of a container that holds more than this.
const MEMORY: i64 = 48 * MIB;
/// What it holds in a memory file system, from where it can only go to swap. An exec by runc needs some more.
const HELD_MIB: i64 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn swap() -> Result<()> {
    skip_unless!(possible(), swap_space());
    swap_is_used_up_to_its_limit("").await
}

#[tokio::test(flavor = "multi_thread")]
async fn swap_by_runc() -> Result<()> {
    skip_unless!(possible(), swap_space(), requirements::program("runc"));
    swap_is_used_up_to_its_limit("runc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn swap_by_crun() -> Result<()> {
    skip_unless!(
        possible(),
        swap_space(),
        requirements::program("crun"),
        crun_works_here()
    );
    swap_is_used_up_to_its_limit("crun").await
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_files() -> Result<()> {
    skip_unless!(possible(), cgroup_v2());
    raw_files_limit("").await
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_files_by_runc() -> Result<()> {
    skip_unless!(possible(), cgroup_v2(), requirements::program("runc"));
    raw_files_limit("runc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_files_by_crun() -> Result<()> {
    skip_unless!(possible(), cgroup_v2(), requirements::program("crun"));
    raw_files_limit("crun").await
}

/// systemd writes what it knows of a unit again whenever it reads its files.
#[tokio::test(flavor = "multi_thread")]
async fn limits_outlive_a_reload_of_systemd() -> Result<()> {
    let driver = match systemd_driver() {
        true => Ok(()),
        false => Err("needs the systemd cgroup driver"),
    };
    skip_unless!(possible(), systemd(), cgroup_v2(), driver);
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    let limits = resources(&mut container)?;
    limits.memory_limit_in_bytes = 64 * MIB;
    limits.cpu_period = 100_000;
    limits.cpu_quota = 50_000;
    let (_, id) = node.run(&node.pod("reload"), &container, "").await?;
    let unit = format!("crio-{id}.scope");
    let known = systemctl(&["show", "--value", "-p", "MemoryMax", &unit])?;
    ensure!(
        known == (64 * MIB).to_string(),
        "MemoryMax of {unit}: {known}"
    );
    systemctl(&["daemon-reload"])?;
    same_limits(node, &id, 64).await?;

    let mut change = resources(&mut container)?.clone();
    change.memory_limit_in_bytes = 96 * MIB;
    let request = crioxide_cri_api::v1::UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(change),
        ..Default::default()
    };
    let mut runtime = node.client.runtime.clone();
    runtime.update_container_resources(request).await?;
    same_limits(node, &id, 96).await?;
    systemctl(&["daemon-reload"])?;
    same_limits(node, &id, 96).await?;
    scene.node.finish().await
}

async fn same_limits(node: &TestNode, id: &str, memory_mib: i64) -> Result<()> {
    let seen = output(node, id, "cd /sys/fs/cgroup; cat memory.max cpu.max").await?;
    let expected = format!("{}\n50000 100000", memory_mib * MIB);
    ensure!(seen == expected, "{seen} instead of {expected}");
    Ok(())
}

fn swap_space() -> Result<(), String> {
    let spaces = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    match spaces.lines().nth(1) {
        Some(_) => Ok(()),
        None => Err("needs swap space".to_owned()),
    }
}

async fn swap_is_used_up_to_its_limit(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let hold = format!("dd if=/dev/urandom of=/dev/shm/held bs=1M count={HELD_MIB} && sleep 600");
    let command = ["sh", "-c", &hold];

    let mut enough = node.container("enough", &scene.image, &command);
    resources(&mut enough)?.memory_limit_in_bytes = MEMORY;
    resources(&mut enough)?.memory_swap_limit_in_bytes = MEMORY + 64 * MIB;
    let (_, id) = node.run(&node.pod("enough"), &enough, handler).await?;
    let least = u64::try_from(HELD_MIB * MIB - MEMORY)?;
    eventually("all of it is held", async || {
        let held = output(node, &id, "stat -c %s /dev/shm/held").await?;
        ensure!(held == (HELD_MIB * MIB).to_string(), "{held} bytes");
        let stats = node
            .client
            .container_stats(&id)
            .await?
            .context("statistics")?;
        let swapped = stats.swap.and_then(|swap| swap.swap_usage_bytes);
        let swapped = swapped.map_or(0, |value| value.value);
        ensure!(swapped >= least, "{swapped} bytes are in swap space");
        Ok(())
    })
    .await?;

    let mut little = node.container("little", &scene.image, &command);
    resources(&mut little)?.memory_limit_in_bytes = MEMORY;
    resources(&mut little)?.memory_swap_limit_in_bytes = MEMORY + 2 * MIB;
    let (_, id) = node.run(&node.pod("little"), &little, handler).await?;
    let ended = node.exited(&id).await?;
    ensure!(ended.reason == "OOMKilled", "{ended:?}");
    scene.node.finish().await
}

async fn raw_files_limit(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let limited = |name: &str, script: &str, file: &str, value: &str| {
        let mut container = node.container(name, &scene.image, &["sh", "-c", script]);
        let unified = &mut resources(&mut container)?.unified;
        unified.insert(file.to_owned(), value.to_owned());
        anyhow::Ok(container)
    };
    let pod = node.pod("raw");

    let script = "for n in $(seq 20); do sleep 600 & done; wait";
    let container = limited("processes", script, "pids.max", "8")?;
    let (pod_id, id) = node.run(&pod, &container, handler).await?;
    let ended = node.exited(&id).await?;
    let log = node.container_log(&pod, "processes")?;
    let errors = log.get("stderr").cloned().unwrap_or_default();
    ensure!(
        ended.exit_code != 0 && errors.contains("can't fork"),
        "{ended:?}: {errors}"
    );

    let script = "while :; do :; done";
    let container = limited("throttled", script, "cpu.max", "20000 100000")?;
    let id = node.client.create(&pod_id, &container, &pod).await?;
    node.client.start(&id).await?;
    counted(node, &id, "cpu.stat", "nr_throttled").await?;

    // Pages of a file can be written back, so the container is slowed and not killed.
    let script = "dd if=/dev/zero of=/file bs=1M count=64; sleep 600";
    let container = limited(
        "pushed-back",
        script,
        "memory.high",
        &(16 * MIB).to_string(),
    )?;
    let id = node.client.create(&pod_id, &container, &pod).await?;
    node.client.start(&id).await?;
    counted(node, &id, "memory.events", "high").await?;
    eventually("the file is written", async || {
        let written = output(node, &id, "stat -c %s /file").await?;
        ensure!(written == (64 * MIB).to_string(), "{written} bytes");
        Ok(())
    })
    .await?;
    let used: i64 = output(node, &id, "cat /sys/fs/cgroup/memory.current")
        .await?
        .parse()?;
    ensure!(used < 32 * MIB, "{used} bytes are used");
    scene.node.finish().await
}

/// Waits until a counter in a file of the container's cgroup is not zero.
async fn counted(node: &TestNode, id: &str, file: &str, counter: &str) -> Result<()> {
    let script = format!("grep '^{counter} ' /sys/fs/cgroup/{file}");
    eventually(&format!("{counter} of {file} counts"), async || {
        let line = output(node, id, &script).await?;
        ensure!(line != format!("{counter} 0"), "{line}");
        Ok(())
    })
    .await
}
