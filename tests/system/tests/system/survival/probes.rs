//! The kubelet's probes, for as long as a node lives: nothing may stay of them.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crioxide_test_support::skip_unless;
use crioxide_test_support::waiting::eventually;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::scene::held::Held;
use crate::scene::{Scene, possible};

/// Containers and probes in all, when `CRIOXIDE_TEST_PROBED` and `CRIOXIDE_TEST_PROBES` do not say.
const PROBED: usize = 10;
const PROBES: usize = 300;
/// Probes under way at once.
const AT_ONCE: usize = 10;
/// Containers of a pod.
const IN_A_POD: usize = 4;

fn number(variable: &str, otherwise: usize) -> usize {
    let text = std::env::var(variable);
    text.ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread")]
async fn leave_nothing() -> Result<()> {
    skip_unless!(possible());
    let probed = number("CRIOXIDE_TEST_PROBED", PROBED);
    let probes = number("CRIOXIDE_TEST_PROBES", PROBES);
    let scene = Scene::start().await?;
    let node = &scene.node;
    let container = |name: &str| node.container(name, &scene.image, &["sleep", "7200"]);
    let pods: Vec<Vec<String>> = stream::iter(0..probed.div_ceil(IN_A_POD))
        .map(async |number| {
            let pod = node.pod(&format!("pod{number}"));
            let (pod_id, id) = node.run(&pod, &container("c0"), "").await?;
            let mut ids = vec![id];
            while ids.len() < IN_A_POD {
                let config = container(&format!("c{}", ids.len()));
                let id = node.client.create(&pod_id, &config, &pod).await?;
                node.client.start(&id).await?;
                ids.push(id);
            }
            anyhow::Ok(ids)
        })
        .buffer_unordered(4)
        .try_collect()
        .await?;
    let ids = pods.concat();
    let probe = async |turn: usize| {
        // One in ten fails, as probes do.
        let fails = turn % 10 == 9;
        let command = if fails { "exit 3" } else { "true" };
        let id = &ids[turn % ids.len()];
        let done = node.client.exec(id, &["sh", "-c", command], 60).await?;
        ensure!(done.exit_code == if fails { 3 } else { 0 }, "{done:?}");
        Ok(())
    };
    let all = async |turns: std::ops::Range<usize>| {
        stream::iter(turns)
            .map(probe)
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await
    };
    all(0..ids.len()).await.context("first probes")?;
    let pid = node.daemon_pid()?;
    let before = Held::now(node).await?;
    let monitors = helpers(pid)?;
    let started = Instant::now();
    all(0..probes).await?;
    let seconds = started.elapsed().as_secs();
    let after = before.again(node).await?;
    let monitors_after = helpers(pid)?;
    eprintln!(
        "{probes} probes of {} containers in {seconds} s: {before:?}, then {after:?}; spawner and monitors {} KiB, then {} KiB",
        ids.len(),
        monitors.memory,
        monitors_after.memory
    );
    ensure!(
        monitors_after.memory < monitors.memory * 5 / 4 + 1024,
        "spawner and monitors grew from {} to {} KiB",
        monitors.memory,
        monitors_after.memory
    );
    eventually("no process of a probe is left", async || {
        let left = helpers(pid)?.children;
        ensure!(
            left == monitors.children,
            "{left} children of monitors, {} before",
            monitors.children
        );
        Ok(())
    })
    .await?;
    scene.node.finish().await
}

/// The daemon's other processes: spawner and monitors, its descendants.
#[derive(Default)]
struct Helpers {
    /// Proportional set size of all, KiB.
    memory: u64,
    /// Their children of other programs, zombies included.
    children: usize,
}

fn helpers(daemon: u32) -> Result<Helpers> {
    let program = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own = program(daemon).context("the daemon's program")?;
    let mut found = Helpers::default();
    let mut parents = vec![daemon];
    while let Some(parent) = parents.pop() {
        for child in children(parent)? {
            if program(child).as_ref() == Some(&own) {
                let path = format!("/proc/{child}/smaps_rollup");
                let rollup = std::fs::read_to_string(path)?;
                let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
                let pss = pss.and_then(|line| line.split_whitespace().next());
                found.memory += pss.context("no Pss")?.parse::<u64>()?;
                parents.push(child);
            } else {
                found.children += 1;
            }
        }
    }
    Ok(found)
}

/// The children of all threads of a process. A thread may end meanwhile; its children pass to another.
fn children(pid: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        if let Ok(children) = std::fs::read_to_string(thread?.path().join("children")) {
            for child in children.split_whitespace() {
                found.push(child.parse()?);
            }
        }
    }
    Ok(found)
}
