//! Limits of cgroups that `resources` does not look at: swap, raw cgroup v2 files, CPUs and processes.

use anyhow::{Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::{NodeOptions, skip_unless};
use tonic::Code;

use super::output;
use crate::scene::{Scene, cgroup_v2, possible, refused};

const MIB: i64 = 1 << 20;

fn resources(container: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerResources {
    let linux = container.linux.get_or_insert_default();
    linux.resources.get_or_insert_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn swap_and_raw_files() -> Result<()> {
    skip_unless!(possible(), cgroup_v2());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    let limits = resources(&mut container);
    limits.memory_limit_in_bytes = 64 * MIB;
    limits.memory_swap_limit_in_bytes = 96 * MIB;
    limits.cpuset_cpus = "0".to_owned();
    limits
        .unified
        .insert("memory.high".to_owned(), (48 * MIB).to_string());
    let (pod_id, id) = node.run(&node.pod("unified"), &container, "").await?;
    let read = |file: &str| format!("cat /sys/fs/cgroup/{file}");
    for (file, expected) in [
        ("memory.max", 64 * MIB),
        ("memory.swap.max", 32 * MIB),
        ("memory.high", 48 * MIB),
    ] {
        let seen = output(node, &id, &read(file)).await?;
        ensure!(seen == expected.to_string(), "{file}: {seen}");
    }
    ensure!(output(node, &id, &read("cpuset.cpus.effective")).await? == "0");
    ensure!(
        output(
            node,
            &id,
            "grep ^Cpus_allowed_list: /proc/self/status | cut -f2"
        )
        .await?
            == "0"
    );
    // Only the container's own group is in sight, and it cannot be changed.
    super::denied(
        node,
        &id,
        "echo max > /sys/fs/cgroup/memory.max",
        "Read-only",
    )
    .await?;
    ensure!(output(node, &id, "cat /proc/self/cgroup").await? == "0::/");
    // A file name that leads elsewhere is none.
    let mut container = node.container("escape", &scene.image, &["true"]);
    resources(&mut container)
        .unified
        .insert("../cgroup.procs".to_owned(), "1".to_owned());
    let answer = node
        .client
        .create(&pod_id, &container, &node.pod("unified"))
        .await;
    refused(answer, &[Code::Unknown], &[])?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_counted() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start_with(NodeOptions {
        runtime_keys: "pids_limit = 20".to_owned(),
        ..Default::default()
    })
    .await?;
    let node = &scene.node;
    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let (_, id) = node.run(&node.pod("pids"), &container, "").await?;
    let script = "for n in $(seq 40); do sleep 60 & done; wait";
    let done = node
        .client
        .exec(&id, &["timeout", "5", "sh", "-c", script], 60)
        .await?;
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(
        errors.contains("can't fork"),
        "{}: {errors}",
        done.exit_code
    );
    scene.node.finish().await
}
