//! Many pods at once leave nothing behind. Runs alone (see `.config/nextest.toml`), so it may look at the whole host.

use anyhow::{Context, Result, ensure};
use crioxide_test_support::snapshot::Scope;
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{HostSnapshot, TestNode, skip_unless};
use futures_util::future::join_all;

use crate::scene::{Scene, possible};

/// Pods in all and at a time; the number is lowered by `CRIOXIDE_TEST_PODS` where machines are slow.
const PODS: usize = 200;
const AT_ONCE: usize = 20;
/// Veth pairs that a daemon keeps for pods to come.
const SPARES: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn parallel_batches() -> Result<()> {
    skip_unless!(possible());
    let pods = std::env::var("CRIOXIDE_TEST_PODS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(PODS);
    let scene = Scene::start().await?;
    let node = &scene.node;
    // The first pod makes what stays with the node: bridge, rules, directories.
    one(node, &scene.image, "first").await?;
    // nextest runs this test alone; under plain `cargo test` others are at work on the same host.
    let alone = std::env::var_os("NEXTEST").is_some();
    let place = node.place();
    let look = || {
        let scope = if alone {
            Scope::WholeHost(place)
        } else {
            Scope::Node(place)
        };
        HostSnapshot::take(&scope)
    };
    // The kernel takes the first pod's network apart in the background: wait until two looks agree.
    let mut before = look();
    eventually("the host is at rest", async || {
        let now = look();
        let gone = before.since(&now);
        before = now;
        ensure!(gone.is_empty(), "still going: {gone:?}");
        Ok(())
    })
    .await?;

    for batch in 0..pods.div_ceil(AT_ONCE) {
        let names: Vec<String> = (0..AT_ONCE.min(pods - batch * AT_ONCE))
            .map(|number| format!("pod{batch}-{number}"))
            .collect();
        let lives = names.iter().map(|name| one(node, &scene.image, name));
        for outcome in join_all(lives).await {
            outcome.with_context(|| format!("batch {batch}"))?;
        }
    }
    ensure!(
        node.client.list_pods().await?.is_empty()
            && node.client.list_containers().await?.is_empty()
    );
    eventually("the host is as before", async || {
        let (spares, left): (Vec<_>, Vec<_>) = look()
            .since(&before)
            .into_iter()
            .partition(|thing| is_spare(thing));
        ensure!(spares.len() <= SPARES, "{spares:?}");
        ensure!(
            left.is_empty(),
            "{} things left: {}",
            left.len(),
            left.join("\n  ")
        );
        Ok(())
    })
    .await?;
    scene.node.finish().await
}

/// Whether something is the host's end of a veth pair that no bridge has: a daemon keeps a few for pods to come. One that a
/// pod left is one too many.
fn is_spare(thing: &str) -> bool {
    thing.strip_prefix("link veth").is_some_and(|name| {
        let link = format!("/sys/class/net/veth{name}");
        !std::path::Path::new(&link).join("master").exists()
    })
}

async fn one(node: &TestNode, image: &str, name: &str) -> Result<()> {
    let pod = node.pod(name);
    let (pod_id, id) = node
        .run(&pod, &node.container("main", image, &["sleep", "600"]), "")
        .await?;
    node.client.stop(&id, 0).await.context("StopContainer")?;
    node.client.remove(&id).await.context("RemoveContainer")?;
    node.client
        .stop_pod(&pod_id)
        .await
        .context("StopPodSandbox")?;
    node.client
        .remove_pod(&pod_id)
        .await
        .context("RemovePodSandbox")
}
