//! A test that fails or is killed leaves nothing that could fail another.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{NodeOptions, TestNode, skip_unless};

use super::restart::container_pid;
use super::stuck::freeze;
use crate::scene::{Scene, possible};

/// Names the file into which the half that is killed writes what it leaves.
const LEFT: &str = "CRIOXIDE_TEST_LEFT";

/// Where a node's things are.
#[derive(Debug)]
struct Traces {
    base: PathBuf,
    cgroup: String,
    bridge: String,
}

impl Traces {
    fn of(node: &TestNode) -> Self {
        let place = node.place();
        Self {
            base: place.base().to_owned(),
            cgroup: place.cgroup_name(),
            bridge: place.bridge(),
        }
    }

    fn found(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let base = self.base.display().to_string();
        if self.base.exists() {
            found.push(base.clone());
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        found.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&base))
                .map(str::to_owned),
        );
        let bridge = Path::new("/sys/class/net").join(&self.bridge);
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup")?
            .flatten()
            .map(|entry| entry.path());
        let cgroups = hierarchies
            .chain([PathBuf::from("/sys/fs/cgroup")])
            .flat_map(|root| {
                [
                    root.join(&self.cgroup),
                    root.join(format!("{}.slice", self.cgroup)),
                ]
            });
        found.extend(
            cgroups
                .chain([bridge])
                .filter(|path| path.exists())
                .map(|path| path.display().to_string()),
        );
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let groups = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            if groups.contains(&self.cgroup) {
                found.push(entry.path().display().to_string());
            }
        }
        Ok(found)
    }
}

/// A node with a container that no signal ends on cgroup v1.
async fn with_a_frozen_container() -> Result<Scene> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let (_, id) = node.run(&node.pod("frozen"), &container, "").await?;
    freeze(container_pid(node, &id).await?)?;
    Ok(scene)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_test_leaves_nothing() -> Result<()> {
    skip_unless!(possible());
    let scene = with_a_frozen_container().await?;
    let traces = Traces::of(&scene.node);
    ensure!(traces.found()?.len() > 3, "{:?}", traces.found()?);
    // As after an error: nothing was finished.
    drop(scene);
    let left = traces.found()?;
    ensure!(left.is_empty(), "{left:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_test_cleans_up_after_one_that_was_killed() -> Result<()> {
    skip_unless!(possible());
    let directory = tempfile::tempdir()?;
    let told = directory.path().join("left");
    let name = concat!(module_path!(), "::the_half_that_is_killed");
    let (_, name) = name.split_once("::").context("a name below the program")?;
    let mut half = tokio::process::Command::new(std::env::current_exe()?);
    let half = half.args(["--exact", name]).env(LEFT, &told);
    let ended = half.output().await?;
    ensure!(!ended.status.success(), "{ended:?}");
    let text = std::fs::read_to_string(&told).with_context(|| format!("{ended:?}"))?;
    let mut words = text.split_whitespace().map(str::to_owned);
    let mut word = || words.next().context("a word");
    let traces = Traces {
        base: word()?.into(),
        cgroup: word()?,
        bridge: word()?,
    };
    let next = TestNode::start(NodeOptions::default()).await?;
    // Another test that begins just now may be at it.
    eventually("nothing is left", async || {
        let left = traces.found()?;
        ensure!(left.is_empty(), "{left:#?}");
        Ok(())
    })
    .await?;
    next.finish().await
}

/// Does nothing by itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_half_that_is_killed() -> Result<()> {
    let Some(told) = std::env::var_os(LEFT) else {
        return Ok(());
    };
    let scene = with_a_frozen_container().await?;
    let Traces {
        base,
        cgroup,
        bridge,
    } = Traces::of(&scene.node);
    std::fs::write(told, format!("{} {cgroup} {bridge}", base.display()))?;
    std::process::abort()
}
