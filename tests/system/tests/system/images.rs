//! Images of every kind that registries hold.

mod artifacts;
mod drivers;

use anyhow::{Context, Result, ensure};
use crioxide_test_support::image::{
    Compression, Format, Image, ImageBuilder, Layer, architecture, busybox_layer, index,
};
use crioxide_test_support::{TestRegistry, requirements, skip_unless};
use serde_json::json;

use crate::scene::{Scene, possible};

#[tokio::test(flavor = "multi_thread")]
async fn formats_and_compressions() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    for format in [Format::Oci, Format::Schema2] {
        for compression in [Compression::Plain, Compression::Gzip, Compression::Zstd] {
            let tag = format!("{format:?}-{compression:?}").to_lowercase();
            let image = ImageBuilder::new(format)
                .layer(busybox_layer()?, compression)
                .layer(
                    Layer::new()
                        .directory("etc", 0o755)
                        .file("etc/kind", tag.as_bytes(), 0o644),
                    compression,
                )
                .build()?;
            let name = scene.registry.add("test/kinds", &tag, &image);
            scene
                .node
                .client
                .pull(&name)
                .await
                .with_context(|| format!("PullImage of {tag}"))?;
            let seen = output(&scene, &name, &tag, &["cat", "/etc/kind"]).await?;
            ensure!(seen == tag, "{tag}: {seen}");
        }
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_gives_the_image_of_this_machine() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    for format in [Format::Oci, Format::Schema2] {
        let other = if architecture() == "amd64" {
            "s390x"
        } else {
            "amd64"
        };
        let kind = |architecture: &str| -> Result<Image> {
            ImageBuilder::new(format)
                .platform("linux", architecture)
                .layer(busybox_layer()?, Compression::Gzip)
                .layer(
                    Layer::new().file("kind", architecture.as_bytes(), 0o644),
                    Compression::Gzip,
                )
                .build()
        };
        let images = [kind(other)?, kind(architecture())?];
        for image in &images {
            scene.registry.add("test/list", "part", image);
        }
        let list = index(format, &images)?;
        let tag = format!("{format:?}").to_lowercase();
        scene.registry.add_manifest("test/list", &tag, &list);
        for (pod, name) in [
            ("by-tag", format!("test/list:{tag}")),
            ("by-digest", format!("test/list@{}", list.digest)),
        ] {
            let name = format!("{}/{name}", scene.registry.host());
            let pod = format!("{pod}-{tag}");
            scene
                .node
                .client
                .pull(&name)
                .await
                .with_context(|| format!("PullImage of {name}"))?;
            ensure!(output(&scene, &name, &pod, &["cat", "/kind"]).await? == architecture());
        }
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn whiteouts_links_and_owners_arrive() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let below = Layer::new()
        .directory("data", 0o755)
        .file("data/hidden", b"old", 0o644)
        .directory("data/opaque", 0o755)
        .file("data/opaque/old", b"old", 0o644)
        .file("data/first", b"same", 0o640)
        .owned_by(33, 50000)
        .hard_link("data/second", "data/first");
    let above = Layer::new()
        .directory("data", 0o755)
        .whiteout("data", "hidden")
        .directory("data/opaque", 0o755)
        .file("data/opaque/.wh..wh..opq", b"", 0o644)
        .file("data/opaque/new", b"new", 0o644);
    let image = ImageBuilder::busybox(Format::Oci)?
        .layer(below, Compression::Gzip)
        .layer(above, Compression::Zstd)
        .build()?;
    let name = scene.registry.add("test/layers", "1", &image);
    scene.node.client.pull(&name).await?;
    let seen = output(
        &scene,
        &name,
        "tree",
        &[
            "sh",
            "-c",
            "cd /data; ls . opaque | tr '\\n' ' '; stat -c '%n %h %u:%g %a' first second",
        ],
    )
    .await?;
    ensure!(
        seen == ".: first opaque second  opaque: new first 2 33:50000 640\nsecond 2 33:50000 640",
        "{seen}"
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_the_image_are_looked_up() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    for (user, expected) in [
        ("web", "uid=33(web) gid=33(web) groups=33(web),50000(extra)"),
        // Ids that the image does not know are entered in its account files.
        (
            "1002:1003",
            "uid=1002(default) gid=1003(1003) groups=1003(1003)",
        ),
        ("33", "uid=33(web) gid=33(web) groups=33(web),50000(extra)"),
    ] {
        let image = ImageBuilder::busybox(Format::Oci)?
            .configure("User", json!(user))
            .build()?;
        let tag = user.replace(':', "-");
        let name = scene.registry.add("test/user", &tag, &image);
        scene.node.client.pull(&name).await?;
        let seen = output(&scene, &name, &tag, &["id"]).await?;
        ensure!(seen == expected, "user {user}: {seen}");
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_pulls_at_once_share_one_transfer() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let big: Vec<u8> = (0..8_000_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let image = ImageBuilder::busybox(Format::Oci)?
        .layer(Layer::new().file("big", &big, 0o644), Compression::Plain)
        .build()?;
    let name = scene.registry.add("test/shared", "1", &image);
    let pulls = (0..20).map(|_| scene.node.client.pull(&name));
    for outcome in futures_util::future::join_all(pulls).await {
        outcome.context("PullImage")?;
    }
    let path = format!("/blobs/{}", image.layers[1].digest);
    let transfers = scene
        .registry
        .requests()
        .iter()
        .filter(|request| request.starts_with("GET") && request.contains(&path))
        .count();
    ensure!(transfers == 1, "the layer travelled {transfers} times");
    scene.node.finish().await
}

/// Many pulls at once, and calls that are answered meanwhile. How long these took is printed, not judged.
#[tokio::test(flavor = "multi_thread")]
async fn different_pulls_at_once_leave_calls_answered() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let client = scene.node.client.clone();
    let mut names = Vec::new();
    for number in 0..20_u32 {
        let mut layer = Layer::new();
        for file in 0..200_u32 {
            let seed = number * 1000 + file;
            let content: Vec<u8> = (seed..seed + 4000)
                .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
                .collect();
            layer = layer.file(&format!("file-{file}"), &content, 0o644);
        }
        let image = ImageBuilder::busybox(Format::Oci)?
            .layer(layer, Compression::Gzip)
            .build()?;
        names.push(scene.registry.add("test/many", &number.to_string(), &image));
    }
    let mut times = Vec::new();
    let pulls = futures_util::future::join_all(names.iter().map(|name| client.pull(name)));
    let mut pulls = Box::pin(pulls);
    let outcomes = loop {
        let called = std::time::Instant::now();
        tokio::select! {
            outcomes = &mut pulls => break outcomes,
            listed = async {
                client.list_images().await?;
                client.list_containers().await
            } => drop(listed?),
        }
        times.push(called.elapsed() / 2);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    };
    drop(pulls);
    for outcome in outcomes {
        outcome.context("PullImage")?;
    }
    ensure!(client.list_images().await?.len() == names.len() + 1);
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100);
    println!(
        "{} times two lists: median {:?}, p99 {:?}",
        times.len(),
        at(50),
        at(99)
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn status_list_and_removal() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let client = &scene.node.client;
    let image = client
        .image_status(&scene.image)
        .await?
        .context("the pulled image")?;
    ensure!(
        image.repo_tags == [scene.image.clone()] && image.size > 0 && image.repo_digests.len() == 1,
        "{image:?}"
    );
    ensure!(client.list_images().await?.len() == 1);
    ensure!(
        client
            .image_status("registry.invalid/none:1")
            .await?
            .is_none()
    );
    client.remove_image(&scene.image).await?;
    client
        .remove_image(&scene.image)
        .await
        .context("removing again is no error")?;
    ensure!(
        client.list_images().await?.is_empty()
            && client.image_status(&scene.image).await?.is_none()
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_distribution_registry() -> Result<()> {
    skip_unless!(possible(), requirements::program("docker-registry"));
    let registry = TestRegistry::start().await?;
    let image = ImageBuilder::busybox(Format::Schema2)?.build()?;
    let name = registry.push("some/deep/name", "v1.0", &image).await?;
    let options = crioxide_test_support::NodeOptions {
        insecure_registries: vec![registry.host()],
        ..Default::default()
    };
    let scene = Scene::start_with(options).await?;
    let by_digest = format!(
        "{}/some/deep/name@{}",
        registry.host(),
        image.manifest.digest
    );
    for name in [&name, &by_digest] {
        scene
            .node
            .client
            .pull(name)
            .await
            .with_context(|| format!("PullImage of {name}"))?;
    }
    ensure!(output(&scene, &by_digest, "real", &["echo", "ran"]).await? == "ran");
    scene.node.finish().await
}

/// What `command` prints in a pod of this image, which is removed again.
async fn output(scene: &Scene, image: &str, pod: &str, command: &[&str]) -> Result<String> {
    let node = &scene.node;
    let pod = node.pod(pod);
    let container = node.container("main", image, command);
    let (_, id) = node.run(&pod, &container, "").await?;
    let status = node.exited(&id).await?;
    let mut log = node.container_log(&pod, "main")?;
    ensure!(status.exit_code == 0, "{status:?}: {log:?}");
    node.remove_pods().await?;
    Ok(log
        .remove("stdout")
        .unwrap_or_default()
        .trim_end()
        .to_owned())
}
