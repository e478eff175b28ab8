//! podman, skopeo and buildah use the same store at the same time; crictl drives the daemon.

mod corpus;
mod crictl;
pub(crate) mod together;

use anyhow::{Context, Result, ensure};
use crioxide_test_support::image::{Compression, Format, ImageBuilder, Layer};
use crioxide_test_support::{TestNode, requirements, skip_unless};
use std::path::Path;
use tokio::process::Command;

use crate::scene::{Scene, possible};
use crate::smoke::crun_works_here;

#[tokio::test(flavor = "multi_thread")]
async fn podman_lists_and_runs_what_we_pulled() -> Result<()> {
    skip_unless!(possible(), requirements::program("podman"));
    let scene = Scene::start().await?;
    let node = &scene.node;
    let listed = podman(node, &["images", "--format", "{{.Repository}}:{{.Tag}}"]).await?;
    ensure!(listed.trim() == scene.image, "{listed}");
    let ran = podman(
        node,
        &[
            "run",
            "--rm",
            "--network=none",
            // The cgroup of its monitor would stay.
            "--cgroups=no-conmon",
            &format!("--cgroup-parent={}", node.place().cgroup_parent()),
            // Its own defaults are beyond what a machine without CAP_SYS_RESOURCE may set.
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1024:1024",
            "--pull=never",
            &scene.image,
            "echo",
            "podman ran it",
        ],
    )
    .await?;
    ensure!(ran == "podman ran it\n", "{ran}");
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn we_run_what_podman_pulled() -> Result<()> {
    skip_unless!(possible(), requirements::program("podman"));
    let scene = Scene::start().await?;
    let node = &scene.node;
    let image = ImageBuilder::busybox(Format::Oci)?
        .layer(
            Layer::new().file("from", b"podman", 0o644),
            Compression::Gzip,
        )
        .build()?;
    let name = scene.registry.add("test/foreign", "1", &image);
    podman(node, &["pull", "--quiet", "--tls-verify=false", &name]).await?;
    ensure!(
        node.client.image_status(&name).await?.is_some(),
        "it is listed without a restart"
    );
    let pod = node.pod("foreign");
    let (_, id) = node
        .run(&pod, &node.container("main", &name, &["cat", "/from"]), "")
        .await?;
    ensure!(node.exited(&id).await?.exit_code == 0);
    ensure!(node.container_log(&pod, "main")?["stdout"].trim() == "podman");
    node.remove_pods().await?;
    podman(node, &["rmi", &name]).await?;
    ensure!(
        node.client.image_status(&name).await?.is_none(),
        "it is gone without a restart"
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_gets_back_the_same_layers() -> Result<()> {
    skip_unless!(possible(), requirements::program("skopeo"));
    let scene = Scene::start().await?;
    let node = &scene.node;
    let layer = Layer::new()
        .directory("d", 0o750)
        .file("d/f", &[3; 100_000], 0o4755)
        .owned_by(7, 8)
        .hard_link("d/g", "d/f")
        .symbolic_link("d/s", "f");
    // An uncompressed layer comes back under its own digest: nobody had to compress it again.
    let image = ImageBuilder::new(Format::Oci)
        .layer(layer, Compression::Plain)
        .build()?;
    let name = scene.registry.add("test/same", "1", &image);
    node.client.pull(&name).await?;
    let out = node.place().base().join("copied");
    let source = format!(
        "containers-storage:[overlay@{}+{}]{name}",
        node.place().root().display(),
        node.place().runroot().display()
    );
    run(
        "skopeo",
        &[
            "copy",
            "--insecure-policy",
            &source,
            &format!("dir:{}", out.display()),
        ],
    )
    .await?;
    for blob in image.layers.iter().chain([&image.config]) {
        let file = out.join(&blob.digest["sha256:".len()..]);
        let bytes = std::fs::read(&file).with_context(|| format!("read `{}`", file.display()))?;
        ensure!(bytes == blob.bytes, "{} differs", blob.media_type);
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn buildah_builds_on_our_image() -> Result<()> {
    skip_unless!(possible(), requirements::program("buildah"));
    let scene = Scene::start().await?;
    let node = &scene.node;
    let built = buildah(node, &["from", "--pull-never", &scene.image])
        .await?
        .trim()
        .to_owned();
    let file = node.place().base().join("added");
    std::fs::write(&file, "by buildah")?;
    buildah(
        node,
        &["copy", &built, &file.display().to_string(), "/added"],
    )
    .await?;
    buildah(node, &["commit", "--quiet", &built, "localhost/built:1"]).await?;
    buildah(node, &["rm", &built]).await?;
    let pod = node.pod("built");
    let (_, id) = node
        .run(
            &pod,
            &node.container("main", "localhost/built:1", &["cat", "/added"]),
            "",
        )
        .await?;
    ensure!(node.exited(&id).await?.exit_code == 0);
    ensure!(node.container_log(&pod, "main")?["stdout"].trim() == "by buildah");
    node.remove_pods().await?;
    node.client.remove_image("localhost/built:1").await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_at_it_at_once() -> Result<()> {
    skip_unless!(possible(), requirements::program("podman"));
    let scene = Scene::start().await?;
    let node = &scene.node;
    let mut names = Vec::new();
    for number in 0..6_u8 {
        let layer = Layer::new().file("number", &[number; 50_000], 0o644);
        let image = ImageBuilder::busybox(Format::Oci)?
            .layer(layer, Compression::Gzip)
            .build()?;
        names.push(scene.registry.add("test/many", &number.to_string(), &image));
    }
    let (ours, theirs) = names.split_at(3);
    let we = async {
        for name in ours {
            node.client
                .pull(name)
                .await
                .with_context(|| format!("PullImage of {name}"))?;
        }
        anyhow::Ok(())
    };
    let they = async {
        for name in theirs {
            podman(node, &["pull", "--quiet", "--tls-verify=false", name]).await?;
        }
        anyhow::Ok(())
    };
    let (we, they) = tokio::join!(we, they);
    we?;
    they?;
    let listed = podman(node, &["images", "--format", "{{.Repository}}:{{.Tag}}"]).await?;
    for name in &names {
        ensure!(
            listed.contains(name.as_str()),
            "podman does not list {name}: {listed}"
        );
        ensure!(
            node.client.image_status(name).await?.is_some(),
            "we do not list {name}"
        );
    }
    scene.node.finish().await
}

async fn podman(node: &TestNode, arguments: &[&str]) -> Result<String> {
    let mut options = vec!["--cgroup-manager=cgroupfs", "--events-backend=none"];
    if crun_works_here().is_err() {
        options.push("--runtime=runc");
    }
    on_store("podman", node, &options, arguments).await
}

async fn buildah(node: &TestNode, arguments: &[&str]) -> Result<String> {
    on_store("buildah", node, &[], arguments).await
}

async fn on_store(
    program: &str,
    node: &TestNode,
    options: &[&str],
    arguments: &[&str],
) -> Result<String> {
    let place = node.place();
    let (root, runroot) = (utf8(place.root())?, place.runroot());
    let mut all = vec![
        "--root",
        root,
        "--runroot",
        utf8(&runroot)?,
        "--storage-driver",
        "overlay",
    ];
    all.extend(options);
    all.extend(arguments);
    run(program, &all).await
}

async fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let path = requirements::program(program).map_err(anyhow::Error::msg)?;
    let done = Command::new(path)
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("start {program}"))?;
    let errors = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} {arguments:?}: {errors}");
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().context("test directories have plain names")
}
