//! The two halves of a power cut under a daemon with pods and pulls, which do nothing as tests: `vmrun powercut` runs the first
//! in a virtual machine until the power goes, and the second on what the disk has kept (see docs/testing.md).

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use crioxide_test_support::image::{
    Compression, Format, Image, ImageBuilder, Layer, busybox_layer,
};
use crioxide_test_support::{NodeOptions, ScriptedRegistry, TestNode};

use crate::interop::together::check;

/// Where the store is; without it there is nothing to do. Everything else is in `CRIOXIDE_TEST_ROOT`, which the cut empties.
const PLACE: &str = "CRIOXIDE_TEST_POWER";
/// What the first half printed last, on the second.
const BEFORE: &str = "/run/vmrun/before";
/// The registry has the same name on both halves.
const HOST: &str = "127.0.0.1:5058";
/// So many images are kept besides the one of the pods.
const KEPT: usize = 3;
/// So many pods are there at a time.
const PODS: usize = 3;

/// Says which images are there and which are gone for good, and goes on until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn until_it_goes() -> Result<()> {
    let Some(place) = place() else {
        return Ok(());
    };
    let registry = ScriptedRegistry::start_at(HOST).await?;
    let node = node(&place).await?;
    // The image of the pods, which stays.
    let first = add(&registry, 0)?;
    node.client.pull(&first).await.context("PullImage")?;
    tokio::try_join!(pulls(&node, &registry), pods(&node, &first))?;
    Ok(())
}

async fn pulls(node: &TestNode, registry: &ScriptedRegistry) -> Result<()> {
    let mut said = Said::default();
    said.there.insert(0);
    for number in 1.. {
        said.say()?;
        let name = add(registry, number)?;
        node.client.pull(&name).await.context("PullImage")?;
        said.there.insert(number);
        said.say()?;
        if said.there.len() > KEPT + 1 {
            let oldest = number - u32::try_from(KEPT)?;
            said.there.remove(&oldest);
            said.say()?;
            let name = name_of(oldest);
            node.client
                .remove_image(&name)
                .await
                .context("RemoveImage")?;
            said.gone.insert(oldest);
        }
    }
    Ok(())
}

async fn pods(node: &TestNode, image: &str) -> Result<()> {
    let mut running = Vec::new();
    for number in 0.. {
        let pod = node.pod(&format!("pod{number}"));
        let script = "echo written > /written; exec sleep 600";
        let container = node.container("main", image, &["sh", "-c", script]);
        running.push(node.run(&pod, &container, "").await?);
        if running.len() > PODS {
            let (pod, container) = running.remove(0);
            node.client.stop(&container, 0).await?;
            node.client.remove(&container).await?;
            node.client.stop_pod(&pod).await?;
            node.client.remove_pod(&pod).await?;
        }
    }
    Ok(())
}

/// The daemon starts, every image that was there is there and works, none that was removed is, and nothing else is left.
#[tokio::test(flavor = "multi_thread")]
async fn after_it_came_back() -> Result<()> {
    let Some(place) = place() else {
        return Ok(());
    };
    let said = Said::read(Path::new(BEFORE))?;
    let registry = ScriptedRegistry::start_at(HOST).await?;
    let mut layers = Vec::new();
    for &number in &said.there {
        add(&registry, number)?;
        layers.extend(image(number)?.layers);
    }
    let starting = Instant::now();
    let mut node = node(&place).await?;
    let started = starting.elapsed();
    let (pods, containers) = (
        node.client.list_pods().await?,
        node.client.list_containers().await?,
    );
    ensure!(
        pods.is_empty() && containers.is_empty(),
        "after a reboot: {pods:?} {containers:?}"
    );
    for &number in &said.gone {
        let found = node.client.image_status(&name_of(number)).await?;
        ensure!(found.is_none(), "image {number} was removed: {found:?}");
    }
    for &number in &said.there {
        let name = name_of(number);
        let found = node.client.image_status(&name).await?;
        ensure!(found.is_some(), "image {number} is lost");
        node.client.pull(&name).await.context("PullImage")?;
    }
    let fetched = registry.requests();
    for layer in &layers {
        let again = fetched
            .iter()
            .find(|request| request.contains(&layer.digest));
        ensure!(again.is_none(), "pulled again: {again:?}");
    }
    node.stop().await?;
    check(&node)?;
    node.start_again().await?;
    for &number in &said.there {
        let pod = node.pod(&format!("after{number}"));
        let container = node.container("main", &name_of(number), &["cat", "/number"]);
        let (_, id) = node.run(&pod, &container, "").await?;
        ensure!(node.exited(&id).await?.exit_code == 0);
        let text = &node.container_log(&pod, "main")?["stdout"];
        ensure!(
            text.trim() == number.to_string(),
            "image {number} has {text}"
        );
    }
    node.finish().await?;
    let left = left_in(&place)?;
    ensure!(left.is_empty(), "left in an empty store: {left:?}");
    println!(
        "intact: {} images, {} removed; the daemon answered after {started:?}",
        said.there.len(),
        said.gone.len()
    );
    Ok(())
}

/// What was promised.
#[derive(Debug, Default)]
struct Said {
    there: BTreeSet<u32>,
    gone: BTreeSet<u32>,
}

impl Said {
    fn say(&self) -> Result<()> {
        let list = |numbers: &BTreeSet<u32>| {
            let words: Vec<_> = numbers.iter().map(ToString::to_string).collect();
            words.join(" ")
        };
        let mut out = std::io::stdout();
        writeln!(
            out,
            "there {} gone {} .",
            list(&self.there),
            list(&self.gone)
        )?;
        out.flush().context("say what is promised")
    }

    /// The last whole line of what was said.
    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).context("read what was promised")?;
        let whole = |line: &str| line.starts_with("there ") && line.ends_with(" .");
        let mut said = Self::default();
        let line = text.lines().rfind(|line| whole(line)).unwrap_or_default();
        let (there, gone) = line.split_once(" gone ").unwrap_or_default();
        let numbers = |words: &str| {
            words
                .split(' ')
                .filter_map(|word| word.parse().ok())
                .collect()
        };
        said.there = numbers(there);
        said.gone = numbers(gone);
        Ok(said)
    }
}

fn place() -> Option<PathBuf> {
    std::env::var_os(PLACE).map(PathBuf::from)
}

async fn node(place: &Path) -> Result<TestNode> {
    TestNode::start(NodeOptions {
        root: Some(place.to_owned()),
        insecure_registries: vec![HOST.to_owned()],
        log_level: "info".to_owned(),
        ..Default::default()
    })
    .await
}

fn name_of(number: u32) -> String {
    format!("{HOST}/power/app-{number}:1")
}

fn add(registry: &ScriptedRegistry, number: u32) -> Result<String> {
    Ok(registry.add(&format!("power/app-{number}"), "1", &image(number)?))
}

/// busybox, which all share, and a layer of its own.
fn image(number: u32) -> Result<Image> {
    let mut own = Layer::new().file("number", number.to_string().as_bytes(), 0o644);
    for file in 0..20_u32 {
        let content: Vec<u8> = (0..3000)
            .flat_map(|word: u32| {
                (word + number)
                    .wrapping_mul(2_654_435_761 + file)
                    .to_le_bytes()
            })
            .collect();
        own = own.file(&format!("data-{file}"), &content, 0o640);
    }
    ImageBuilder::new(Format::Oci)
        .layer(busybox_layer()?, Compression::Plain)
        .layer(own, Compression::Gzip)
        .build()
}

/// Layers and containers that lie in the store's directories.
fn left_in(place: &Path) -> Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    for directory in [
        "overlay",
        "overlay-containers",
        "overlay-layers",
        "overlay-images",
    ] {
        for entry in std::fs::read_dir(place.join(directory)).context("list the store")? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.split('.').next().is_some_and(|id| id.len() == 64) {
                left.push(path);
            }
        }
    }
    Ok(left)
}
