//! Images as volumes, and the volumes that images declare.

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::image::{Compression, Format, ImageBuilder, Layer};
use crioxide_test_support::{NodeOptions, requirements, skip_unless};
use serde_json::json;
use tonic::Code;

use super::{denied, output};
use crate::scene::{Scene, possible, refused};

const FAILED: &[Code] = &[Code::Unknown];

fn data_image() -> Result<ImageBuilder> {
    let below = Layer::new()
        .directory("data", 0o755)
        .file("data/greeting", b"hello\n", 0o644)
        .file("data/gone", b"", 0o644);
    let above = Layer::new()
        .directory("data/deep", 0o755)
        .file("data/deep/file", b"deep\n", 0o644)
        .symbolic_link("inside", "/data/deep")
        .symbolic_link("outside", "../../../../etc")
        .file("data/.wh.gone", b"", 0o644);
    Ok(ImageBuilder::new(Format::Oci)
        .layer(below, Compression::Gzip)
        .layer(above, Compression::Gzip))
}

fn image_mount(image: &str, place: &str, sub_path: &str) -> v1::Mount {
    v1::Mount {
        container_path: place.to_owned(),
        image: Some(crioxide_test_support::client::image_spec(image)),
        image_sub_path: sub_path.to_owned(),
        ..Default::default()
    }
}

async fn scene_with_data() -> Result<(Scene, String)> {
    let scene = Scene::start().await?;
    let data = scene
        .registry
        .add("test/data", "1", &data_image()?.build()?);
    scene.node.client.pull(&data).await?;
    Ok((scene, data))
}

#[tokio::test(flavor = "multi_thread")]
async fn builtin_mounts_an_image() -> Result<()> {
    skip_unless!(possible());
    image_is_mounted("builtin").await
}

#[tokio::test(flavor = "multi_thread")]
async fn runc_mounts_an_image() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    image_is_mounted("runc").await
}

async fn image_is_mounted(handler: &str) -> Result<()> {
    let (scene, data) = scene_with_data().await?;
    let node = &scene.node;
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    container.mounts.push(image_mount(&data, "/whole", ""));
    container
        .mounts
        .push(image_mount(&data, "/part", "data/deep"));
    container.mounts.push(image_mount(&data, "/link", "inside"));
    let (pod_id, id) = node.run(&node.pod("images"), &container, handler).await?;
    let seen = output(
        node,
        &id,
        "cat /whole/data/greeting /part/file /link/file; ls /whole/data",
    )
    .await?;
    ensure!(seen == "hello\ndeep\ndeep\ndeep\ngreeting", "{seen}");
    denied(node, &id, "echo > /whole/new", "Read-only").await?;
    denied(node, &id, "mount -o remount,rw /whole", "").await?;
    let status = node.client.container_status(&id).await?;
    let listed = status
        .mounts
        .iter()
        .find(|mount| mount.container_path == "/whole");
    let listed = listed.context("the image's mount is listed")?;
    let image_id = node
        .client
        .image_status(&data)
        .await?
        .context("an image")?
        .id;
    ensure!(
        listed.readonly && listed.image.as_ref().is_some_and(|i| i.image == image_id),
        "{listed:?}"
    );
    let reference = listed.image.as_ref().map(|image| &image.image_ref);
    ensure!(reference == Some(&image_id), "{listed:?}");
    let answer = node.client.remove_image(&image_id).await;
    refused(answer, FAILED, &["the image is in use by", &id])?;
    node.client.stop(&id, 0).await?;
    let answer = node.client.remove_image(&image_id).await;
    refused(answer, FAILED, &["the image is in use by", &id])?;
    node.client.remove(&id).await?;
    node.client.remove_image(&image_id).await?;
    node.client.remove_pod(&pod_id).await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_mounted_is_refused_by_name() -> Result<()> {
    skip_unless!(possible());
    let (scene, data) = scene_with_data().await?;
    let node = &scene.node;
    let pod = node.pod("refused");
    let pod_id = node.client.run_pod(&pod, "").await?;
    for (image, sub_path, part) in [
        (
            data.as_str(),
            "nowhere",
            "sub path \"nowhere\" does not exist in image volume",
        ),
        (
            data.as_str(),
            "outside/passwd",
            "does not exist in image volume",
        ),
        (
            data.as_str(),
            "../../../../../etc/passwd",
            "does not exist in image volume",
        ),
        (
            "registry.invalid/no/such:1",
            "",
            "registry.invalid/no/such:1",
        ),
    ] {
        let mut container = node.container("main", &scene.image, &["true"]);
        container
            .mounts
            .push(image_mount(image, "/image", sub_path));
        let answer = node.client.create(&pod_id, &container, &pod).await;
        let status = answer
            .as_ref()
            .err()
            .map(|status| status.message().to_owned());
        ensure!(
            status
                .as_ref()
                .is_some_and(|text| text.starts_with("ImageVolumeMountFailed")),
            "{status:?}"
        );
        refused(answer, FAILED, &[part])?;
    }
    ensure!(node.client.list_containers().await?.is_empty());
    // Nothing of the failed tries holds the image.
    let image_id = node
        .client
        .image_status(&data)
        .await?
        .context("an image")?
        .id;
    node.client.remove_image(&image_id).await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_stays_mounted_when_the_daemon_dies() -> Result<()> {
    skip_unless!(possible());
    let (mut scene, data) = scene_with_data().await?;
    let mut container = scene
        .node
        .container("main", &scene.image, &["sleep", "600"]);
    container.mounts.push(image_mount(&data, "/whole", ""));
    let (_, id) = scene
        .node
        .run(&scene.node.pod("images"), &container, "")
        .await?;
    scene.node.kill().await?;
    scene.node.start_again().await?;
    let node = &scene.node;
    let seen = output(node, &id, "cat /whole/data/greeting").await?;
    ensure!(seen == "hello", "{seen}");
    let image_id = node
        .client
        .image_status(&data)
        .await?
        .context("an image")?
        .id;
    let answer = node.client.remove_image(&image_id).await;
    refused(answer, FAILED, &["the image is in use by", &id])?;
    scene.node.finish().await
}

/// An image that declares volumes, one of them in the way of an attack.
fn image_with_volumes() -> Result<ImageBuilder> {
    Ok(ImageBuilder::busybox(Format::Oci)?.configure(
        "Volumes",
        json!({"/data": {}, "/../../../escaped": {}, "/etc/below": {}}),
    ))
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_volumes_by_mode() -> Result<()> {
    skip_unless!(possible());
    for (mode, mounted, there) in [
        ("mkdir", false, true),
        ("bind", true, true),
        ("ignore", false, false),
    ] {
        let scene = Scene::start_with(NodeOptions {
            image_keys: format!("image_volumes = \"{mode}\""),
            ..Default::default()
        })
        .await?;
        let node = &scene.node;
        let name = scene
            .registry
            .add("test/volumes", "1", &image_with_volumes()?.build()?);
        node.client.pull(&name).await?;
        let container = node.container("main", &name, &["sleep", "600"]);
        let (_, id) = node
            .run(&node.pod(mode), &container, "")
            .await
            .context(mode)?;
        let script = "for v in /data /etc/below /escaped; do \
            test -d $v && echo -n yes || echo -n no; \
            grep -q \" $v \" /proc/self/mountinfo && echo -n ,mount; test -d $v && echo x > $v/file; echo; done";
        let seen = output(node, &id, script).await?;
        let line = match (there, mounted) {
            (false, _) => "no",
            (true, false) => "yes",
            (true, true) => "yes,mount",
        };
        ensure!(seen == [line; 3].join("\n"), "{mode}: {seen}");
        ensure!(
            !std::path::Path::new("/escaped").exists(),
            "{mode}: a directory was made on the host"
        );
        scene.node.finish().await?;
    }
    Ok(())
}
