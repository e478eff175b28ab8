//! What is reported of the use of processors, memory, disks and networks.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::skip_unless;
use crioxide_test_support::waiting::eventually;

use crate::scene::{Scene, possible};

fn device(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path)?.dev())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_containers_and_their_pods() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let script = "head -c 100000 /dev/zero > /file; while :; do :; done";
    let mut container = node.container("main", &scene.image, &["sh", "-c", script]);
    let linux = container.linux.as_mut().context("a Linux container")?;
    let resources = linux.resources.get_or_insert_default();
    resources.memory_limit_in_bytes = 64 << 20;
    let (pod, id) = node.run(&node.pod("busy"), &container, "").await?;
    let quiet = node.container("quiet", &scene.image, &["sleep", "600"]);
    let config = node.pod("busy");
    let second = node.client.create(&pod, &quiet, &config).await?;
    node.client.start(&second).await?;

    eventually("all figures of the busy container are there", async || {
        let all = container_list(node, v1::ContainerStatsFilter::default()).await?;
        let ids: HashSet<_> = all.iter().filter_map(stats_id).collect();
        ensure!(
            ids == HashSet::from([id.as_str(), second.as_str()]),
            "{ids:?}"
        );
        let busy = all.iter().find(|stats| stats_id(stats) == Some(&id));
        let busy = busy.context("the busy one is listed")?;
        let cpu = busy.cpu.as_ref().context("cpu")?;
        let rate = cpu
            .usage_nano_cores
            .context("a rate from the second reading on")?;
        ensure!(cpu.timestamp > 0 && rate.value > 1_000_000, "{cpu:?}");
        let memory = busy.memory.as_ref().context("memory")?;
        let number = |value: &Option<v1::UInt64Value>| value.map_or(0, |value| value.value);
        ensure!(number(&memory.working_set_bytes) > 0 && number(&memory.rss_bytes) > 0);
        ensure!(number(&memory.page_faults) > 0, "{memory:?}");
        let (free, used) = (
            number(&memory.available_bytes),
            number(&memory.working_set_bytes),
        );
        ensure!(free > 0 && free + used == 64 << 20, "{memory:?}");
        let layer = busy.writable_layer.as_ref().context("a writable layer")?;
        ensure!(number(&layer.inodes_used) > 0, "{layer:?}");
        let file_system = &layer.fs_id.as_ref().context("a file system")?.mountpoint;
        ensure!(
            device(Path::new(file_system))? == device(node.place().root())?,
            "{file_system} is not in the file system of the store"
        );
        Ok(())
    })
    .await?;

    // The layer is counted again after a while, and only then; the file is in it at last.
    eventually(
        "the pod's figures hold its containers and its interface",
        async || {
            let pods = node.client.runtime.clone();
            let request = v1::ListPodSandboxStatsRequest::default();
            let all = pods
                .clone()
                .list_pod_sandbox_stats(request)
                .await?
                .into_inner()
                .stats;
            ensure!(all.len() == 1, "{all:?}");
            let linux = all[0].linux.as_ref().context("Linux")?;
            ensure!(linux.containers.len() == 2, "{linux:?}");
            let processes = linux
                .process
                .and_then(|p| p.process_count)
                .context("processes")?;
            ensure!(processes.value >= 2, "{processes:?}");
            let network = linux.network.as_ref().context("network")?;
            let default = network
                .default_interface
                .as_ref()
                .context("default interface")?;
            ensure!(
                default.name == "eth0" && default.tx_bytes.is_some(),
                "{network:?}"
            );
            Ok(())
        },
    )
    .await?;

    let none = v1::ContainerStatsFilter {
        id: "ffff".to_owned(),
        ..Default::default()
    };
    ensure!(container_list(node, none).await?.is_empty());
    node.client.stop(&second, 0).await?;
    let left = container_list(node, v1::ContainerStatsFilter::default()).await?;
    ensure!(
        left.len() == 1 && stats_id(&left[0]) == Some(&id),
        "{left:?}"
    );
    let gone = node
        .client
        .container_stats(&second)
        .await?
        .context("stats of an ended one")?;
    ensure!(
        gone.cpu.is_none() && gone.writable_layer.is_some(),
        "{gone:?}"
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn open_files_of_ended_containers_are_closed() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let kept = async || -> Result<usize> {
        let directory = format!("/proc/{}/fd", node.daemon_pid()?);
        let files = std::fs::read_dir(directory)?.flatten();
        let cgroup = |entry: &std::fs::DirEntry| {
            std::fs::read_link(entry.path()).is_ok_and(|to| to.starts_with("/sys/fs/cgroup"))
        };
        Ok(files.filter(cgroup).count())
    };
    let before = kept().await?;
    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let (pod, id) = node.run(&node.pod("short"), &container, "").await?;
    container_list(node, v1::ContainerStatsFilter::default()).await?;
    let request = v1::ListPodSandboxStatsRequest::default();
    node.client
        .runtime
        .clone()
        .list_pod_sandbox_stats(request)
        .await?;
    ensure!(
        kept().await? > before,
        "files are kept open between readings"
    );
    node.client.stop(&id, 0).await?;
    node.client.stop_pod(&pod).await?;
    eventually("they are closed", async || {
        let now = kept().await?;
        ensure!(now == before, "{now} files are open, {before} were");
        Ok(())
    })
    .await?;
    scene.node.finish().await
}

fn stats_id(stats: &v1::ContainerStats) -> Option<&str> {
    Some(&stats.attributes.as_ref()?.id)
}

async fn container_list(
    node: &crioxide_test_support::TestNode,
    filter: v1::ContainerStatsFilter,
) -> Result<Vec<v1::ContainerStats>> {
    let request = v1::ListContainerStatsRequest {
        filter: Some(filter),
    };
    let mut runtime = node.client.runtime.clone();
    Ok(runtime
        .list_container_stats(request)
        .await?
        .into_inner()
        .stats)
}
