//! podman, buildah, skopeo and the daemon at work on one store, for a while.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crioxide_test_support::image::{Compression, Format, ImageBuilder, Layer};
use crioxide_test_support::{TestNode, requirements, skip_unless};

use super::{buildah, podman, run};
use crate::scene::{Scene, possible};

/// Seconds that all work, 4 without it.
const SECONDS: &str = "CRIOXIDE_TEST_INTEROP_SECONDS";
/// Images in the registry for each of the four, used again and again.
const IMAGES: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn all_four_at_once() -> Result<()> {
    skip_unless!(
        possible(),
        requirements::program("podman"),
        requirements::program("buildah"),
        requirements::program("skopeo")
    );
    let mut scene = Scene::start().await?;
    let names = offer(&scene)?;
    let seconds = std::env::var(SECONDS).ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(4);
    let end = Instant::now() + Duration::from_secs(seconds);
    let scene_now = &scene;
    let rounds = tokio::try_join!(
        until(end, async |round| by_podman(
            &scene_now.node,
            &names[0][round % IMAGES]
        )
        .await),
        until(end, async |round| by_buildah(scene_now, round).await),
        until(end, async |round| by_skopeo(
            scene_now,
            &names[1][round % IMAGES]
        )
        .await),
        until(end, async |round| by_us(
            scene_now,
            &names[2][round % IMAGES],
            round
        )
        .await),
    )?;
    println!("rounds of podman, buildah, skopeo and the daemon: {rounds:?}");

    // All see the same, which is what was there before and one image that stays of each.
    for name in [&names[0][0], &names[1][0], &names[2][0]] {
        podman(
            &scene.node,
            &["pull", "--quiet", "--tls-verify=false", name],
        )
        .await?;
    }
    let listed = podman(
        &scene.node,
        &["images", "--noheading", "--format", "{{.ID}}"],
    )
    .await?;
    let ours = scene.node.client.list_images().await?;
    ensure!(
        ours.len() == 4 && listed.lines().count() == 4,
        "{ours:?} and {listed}"
    );
    for image in &ours {
        let short = image.id.get(..12).unwrap_or_default();
        ensure!(listed.contains(short), "podman does not list {image:?}");
    }
    let containers = podman(&scene.node, &["ps", "--all", "--external", "--quiet"]).await?;
    ensure!(containers.is_empty(), "containers are left: {containers}");
    scene.node.stop().await?;
    check(&scene.node)?;
    scene.node.start_again().await?;
    scene.node.finish().await
}

/// Repeats `work` until the time is over; how often that was.
async fn until(end: Instant, work: impl AsyncFn(usize) -> Result<()>) -> Result<usize> {
    let mut round = 0;
    while Instant::now() < end || round == 0 {
        work(round).await?;
        round += 1;
    }
    Ok(round)
}

/// Images for podman, skopeo and the daemon.
fn offer(scene: &Scene) -> Result<Vec<Vec<String>>> {
    let mut names = Vec::new();
    for user in 0..3_u8 {
        let mut own = Vec::new();
        for number in 0..IMAGES {
            let content = [user, u8::try_from(number)?].repeat(40_000);
            let image = ImageBuilder::busybox(Format::Oci)?
                .layer(Layer::new().file("own", &content, 0o644), Compression::Gzip)
                .build()?;
            own.push(scene.registry.add(
                &format!("together/user-{user}"),
                &number.to_string(),
                &image,
            ));
        }
        names.push(own);
    }
    Ok(names)
}

async fn by_podman(node: &TestNode, name: &str) -> Result<()> {
    podman(node, &["pull", "--quiet", "--tls-verify=false", name]).await?;
    let container = podman(
        node,
        &["create", "--network=none", "--pull=never", name, "true"],
    )
    .await?;
    let container = container.trim();
    let mounted = podman(node, &["mount", container]).await?;
    let own = std::path::Path::new(mounted.trim()).join("own");
    ensure!(own.exists(), "`{}` is in the image", own.display());
    podman(node, &["unmount", container]).await?;
    podman(node, &["rm", container]).await?;
    podman(node, &["rmi", name]).await.map(drop)
}

async fn by_buildah(scene: &Scene, round: usize) -> Result<()> {
    let node = &scene.node;
    let name = format!("builder-{round}");
    buildah(
        node,
        &["from", "--pull-never", "--name", &name, &scene.image],
    )
    .await?;
    let file = node.place().base().join("built");
    std::fs::write(&file, round.to_string())?;
    buildah(
        node,
        &["copy", &name, &file.display().to_string(), "/built"],
    )
    .await?;
    let image = format!("localhost/built:{round}");
    buildah(node, &["commit", "--quiet", &name, &image]).await?;
    buildah(node, &["rm", &name]).await?;
    ensure!(
        node.client.image_status(&image).await?.is_some(),
        "what buildah built is there"
    );
    buildah(node, &["rmi", &image]).await.map(drop)
}

/// Into the store and out of it again.
async fn by_skopeo(scene: &Scene, name: &str) -> Result<()> {
    let place = scene.node.place();
    let stored = format!(
        "containers-storage:[overlay@{}+{}]{name}",
        place.root().display(),
        place.runroot().display()
    );
    let copy = async |from: &str, to: &str| {
        let options = [
            "copy",
            "--quiet",
            "--insecure-policy",
            "--src-tls-verify=false",
        ];
        run("skopeo", &[&options[..], &[from, to]].concat()).await
    };
    copy(&format!("docker://{name}"), &stored).await?;
    let out = tempfile::tempdir_in(place.base()).context("make a directory for a copy")?;
    copy(&stored, &format!("dir:{}", out.path().display())).await?;
    run("skopeo", &["delete", &stored]).await.map(drop)
}

async fn by_us(scene: &Scene, name: &str, round: usize) -> Result<()> {
    let node = &scene.node;
    node.client.pull(name).await.context("PullImage")?;
    let pod = node.pod(&format!("round{round}"));
    let container = node.container("main", name, &["sh", "-c", "echo x > /new && test -e /own"]);
    let (pod, id) = node.run(&pod, &container, "").await?;
    ensure!(node.exited(&id).await?.exit_code == 0, "round {round}");
    node.client.remove(&id).await.context("RemoveContainer")?;
    node.client.stop_pod(&pod).await.context("StopPodSandbox")?;
    node.client
        .remove_pod(&pod)
        .await
        .context("RemovePodSandbox")?;
    node.client.remove_image(name).await.context("RemoveImage")
}

/// Our command line's examination of the whole store finds nothing.
pub(crate) fn check(node: &TestNode) -> Result<()> {
    let program = requirements::daemon().map_err(anyhow::Error::msg)?;
    let storage = node.place().base().join("etc/storage.conf");
    let done = Command::new(program)
        .arg("--config")
        .arg(node.place().conf())
        .args(["--config-dir", ""])
        .arg("check")
        .env("CONTAINERS_STORAGE_CONF", storage)
        .output()
        .context("run check")?;
    let told = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "the check found: {told}");
    Ok(())
}
