//! OCI artifacts: pulled, listed, mounted file by file, kept while they are mounted.

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::client::image_spec;
use crioxide_test_support::image::{Blob, Image, architecture};
use crioxide_test_support::{NodeOptions, TestNode, TestRegistry, requirements, skip_unless};
use serde_json::json;
use tonic::Code;

use crate::scene::{Scene, possible, refused};
use crate::security::user_namespaces::map_users;
use crate::security::{denied, output, security};
use crate::smoke::crun_works_here;

const FAILED: &[Code] = &[Code::Unknown];

/// Files by their titles; an empty title is none.
fn artifact(files: &[(&str, &str)]) -> Image {
    let config = Blob::new("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    let layers: Vec<Blob> = files
        .iter()
        .map(|(_, content)| Blob::new("text/plain", content.as_bytes().to_vec()))
        .collect();
    let described = files.iter().zip(&layers).map(|((title, _), layer)| {
        let mut descriptor = layer.descriptor();
        if !title.is_empty() {
            descriptor["annotations"] = json!({"org.opencontainers.image.title": title});
        }
        descriptor
    });
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "artifactType": "application/vnd.example.files",
        "config": config.descriptor(),
        "layers": described.collect::<Vec<_>>(),
    });
    Image {
        manifest: Blob::new(media_type, manifest.to_string().into_bytes()),
        config,
        layers,
        platform: ("linux".to_owned(), architecture().to_owned()),
    }
}

fn files() -> Image {
    artifact(&[
        ("greeting.txt", "hello artifact"),
        ("part/2", "two"),
        ("part/deep/3", "three"),
        ("../../../escaped", "clamped"),
        ("/etc/absolute", "below"),
        ("run.sh", "#!/bin/sh\necho ran"),
        ("", "nobody sees this"),
    ])
}

fn mount(artifact: &str, place: &str, sub_path: &str) -> v1::Mount {
    v1::Mount {
        container_path: place.to_owned(),
        image: Some(image_spec(artifact)),
        image_sub_path: sub_path.to_owned(),
        ..Default::default()
    }
}

async fn id_of(node: &TestNode, name: &str) -> Result<String> {
    let status = node.client.image_status(name).await?;
    Ok(status.with_context(|| format!("status of {name}"))?.id)
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_distribution_registry() -> Result<()> {
    skip_unless!(possible(), requirements::program("docker-registry"));
    let registry = TestRegistry::start().await?;
    let pushed = files();
    let name = registry.push("some/files", "v1", &pushed).await?;
    let scene = Scene::start_with(NodeOptions {
        insecure_registries: vec![registry.host()],
        ..Default::default()
    })
    .await?;
    let node = &scene.node;
    node.client.pull(&name).await?;
    let status = node.client.image_status(&name).await?.context("a status")?;
    let digest = &pushed.manifest.digest;
    ensure!(format!("sha256:{}", status.id) == *digest, "{status:?}");
    ensure!(status.repo_tags == [name.clone()], "{status:?}");
    let by_digest = format!("{}/some/files@{digest}", registry.host());
    ensure!(status.repo_digests == [by_digest.clone()], "{status:?}");
    ensure!(!status.pinned && node.client.list_images().await?.len() == 2);

    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    container.mounts.push(mount(&name, "/files", ""));
    container
        .mounts
        .push(mount(&by_digest, "/deep", "part/deep"));
    container
        .mounts
        .push(mount(&status.id[..12], "/part", "./part/"));
    let (pod, id) = node.run(&node.pod("files"), &container, "").await?;
    let seen = output(
        node,
        &id,
        "cd /files && cat greeting.txt part/2 escaped etc/absolute /deep/3 /part/deep/3 && find . -type f | sort",
    )
    .await?;
    ensure!(
        seen == "hello artifacttwoclampedbelowthreethree./escaped\n./etc/absolute\n./greeting.txt\n./part/2\n./part/deep/3\n./run.sh",
        "{seen}"
    );
    denied(node, &id, "echo x > /files/greeting.txt", "Read-only").await?;
    denied(node, &id, "mount -o remount,rw /files/greeting.txt", "").await?;
    denied(node, &id, "/files/run.sh", "Permission denied").await?;
    let mounts = node.client.container_status(&id).await?.mounts;
    let ours: Vec<_> = mounts.iter().filter(|m| m.image.is_some()).collect();
    ensure!(ours.len() == 6 + 1 + 2, "{mounts:?}");
    for mount in ours {
        let image = mount.image.as_ref().map(|image| image.image.as_str());
        ensure!(
            mount.readonly && image == Some(status.id.as_str()),
            "{mount:?}"
        );
    }

    for wanted in [&name, &status.id] {
        let answer = node.client.remove_image(wanted).await;
        refused(answer, FAILED, &["the image is in use by", &id])?;
    }
    node.client.stop(&id, 0).await?;
    node.client.remove(&id).await?;
    node.client.remove_image(&name).await?;
    ensure!(node.client.image_status(&name).await?.is_none());
    node.client.remove_pod(&pod).await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_handler_gives_them_to_users_of_all_kinds() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let name = scene.registry.add("test/files", "1", &files());
    node.client.pull(&name).await?;
    for handler in ["builtin", "runc", "crun"] {
        if handler != "builtin" && requirements::program(handler).is_err()
            || handler == "crun" && crun_works_here().is_err()
        {
            continue;
        }
        let mut container = node.container("main", &scene.image, &["sleep", "600"]);
        container.mounts.push(mount(&name, "/files", ""));
        security(&mut container).run_as_user = Some(v1::Int64Value { value: 1234 });
        security(&mut container).readonly_rootfs = true;
        let (_, id) = node
            .run(&node.pod(handler), &container, handler)
            .await
            .context(handler)?;
        let seen = output(node, &id, "id -u; cat /files/greeting.txt /files/part/2").await?;
        ensure!(seen == "1234\nhello artifacttwo", "{handler}: {seen}");
        node.remove_pods().await?;
    }
    let mut pod = node.pod("mapped");
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    map_users(&mut pod, &mut container, 300_000);
    container.mounts.push(mount(&name, "/files", ""));
    let (_, id) = node.run(&pod, &container, "").await?;
    let seen = output(node, &id, "cat /files/greeting.txt").await?;
    ensure!(seen == "hello artifact", "{seen}");
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_mounted_is_refused_by_name() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let good = scene.registry.add("test/files", "good", &files());
    let up = scene
        .registry
        .add("test/files", "up", &artifact(&[("..", "x")]));
    let twice = scene.registry.add(
        "test/files",
        "twice",
        &artifact(&[("a", "x"), ("a/b", "y")]),
    );
    for name in [&good, &up, &twice] {
        node.client.pull(name).await?;
    }
    let pod = node.pod("refused");
    let pod_id = node.client.run_pod(&pod, "").await?;
    for (name, sub_path, part) in [
        (
            &good,
            "nowhere",
            "sub path \"nowhere\" does not exist in OCI artifact volume",
        ),
        (
            &good,
            "greeting.txt",
            "does not exist in OCI artifact volume",
        ),
        (&good, "../etc", "does not exist in OCI artifact volume"),
        (&up, "", "\"..\" is no file name"),
        (&twice, "", "file \"a/b\" lies below another file"),
    ] {
        let mut container = node.container("main", &scene.image, &["true"]);
        container.mounts.push(mount(name, "/files", sub_path));
        let answer = node.client.create(&pod_id, &container, &pod).await;
        refused(answer, FAILED, &["ImageVolumeMountFailed", part])?;
    }
    ensure!(node.client.list_containers().await?.is_empty());
    // Nothing of the failed tries holds them.
    for name in [&good, &up, &twice] {
        node.client.remove_image(name).await?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_can_be_turned_off() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start_with(NodeOptions {
        image_keys: "oci_artifact_mount_support = false".to_owned(),
        ..Default::default()
    })
    .await?;
    let node = &scene.node;
    let name = scene.registry.add("test/files", "1", &files());
    node.client.pull(&name).await?;
    let pod = node.pod("off");
    let pod_id = node.client.run_pod(&pod, "").await?;
    let mut container = node.container("main", &scene.image, &["true"]);
    container.mounts.push(mount(&name, "/files", ""));
    let answer = node.client.create(&pod_id, &container, &pod).await;
    refused(answer, FAILED, &["ImageVolumeMountFailed", &name])?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn additional_stores_come_first_and_are_left_alone() -> Result<()> {
    skip_unless!(possible());
    let place = tempfile::tempdir()?;
    let more = place.path().join("more");
    let scene = Scene::start_with(NodeOptions {
        runtime_keys: format!(
            "additional_artifact_stores = [{:?}]",
            more.display().to_string()
        ),
        ..Default::default()
    })
    .await?;
    let node = &scene.node;
    let name = scene.registry.add("test/files", "1", &files());
    node.client.pull(&name).await?;
    let own = node.place().root().join("artifacts");
    std::fs::create_dir_all(&more)?;
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([&own, &more.join("artifacts")])
        .status()?;
    ensure!(copied.success());
    let listed = node.client.list_images().await?;
    let listed: Vec<_> = listed
        .iter()
        .filter(|i| i.repo_tags == [name.clone()])
        .collect();
    ensure!(listed.len() == 1 && listed[0].pinned, "{listed:?}");
    let id = id_of(node, &name).await?;
    node.client.remove_image(&name).await?;
    ensure!(
        id_of(node, &name).await? == id,
        "an additional store was changed"
    );
    // Nothing is fetched again, and what is mounted comes from there.
    let blobs = || {
        let requests = scene.registry.requests();
        let blobs = requests
            .iter()
            .filter(|line| line.contains("test/files/blobs/"));
        blobs.count()
    };
    let before = blobs();
    node.client.pull(&name).await?;
    ensure!(blobs() == before, "blobs were fetched");
    ensure!(
        std::fs::read_dir(own.join("blobs/sha256"))?
            .next()
            .is_none()
    );
    let mut container = node.container("main", &scene.image, &["sleep", "600"]);
    container.mounts.push(mount(&name, "/files", "part"));
    let (_, container) = node.run(&node.pod("more"), &container, "").await?;
    let seen = output(node, &container, "cat /files/2").await?;
    ensure!(seen == "two", "{seen}");
    scene.node.finish().await
}
