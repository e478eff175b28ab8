//! Bad images and registries: each is refused with a message that names what and where, and leaves nothing behind.

use anyhow::{Context, Result, ensure};
use crioxide_test_support::image::{Blob, Compression, Format, Image, ImageBuilder, Layer};
use crioxide_test_support::scripted_registry::Fault;
use crioxide_test_support::{HostSnapshot, skip_unless};
use serde_json::json;
use tonic::Code;

use crate::scene::{Scene, possible, refused};

const ANY: &[Code] = &[
    Code::Unknown,
    Code::Internal,
    Code::NotFound,
    Code::Unavailable,
    Code::InvalidArgument,
    Code::FailedPrecondition,
    Code::DataLoss,
    Code::Unauthenticated,
    Code::PermissionDenied,
    Code::ResourceExhausted,
];

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let host = scene.registry.host();
    for (name, part) in [
        (format!("{host}/test/nothing:1"), "test/nothing"),
        (format!("{host}/test/busybox:nothing"), "nothing"),
        (
            format!("{host}/test/busybox@sha256:{}", "0".repeat(64)),
            "0000",
        ),
        (format!("{host}/Upper/case:1"), "Upper"),
        (format!("{host}/test/busybox@sha256:short"), "short"),
        ("127.0.0.1:1/nobody/listens:1".to_owned(), "127.0.0.1:1"),
    ] {
        refused(scene.node.client.pull(&name).await, ANY, &[part]).with_context(|| name)?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_registry() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let (image, name) = fresh(&scene, "statuses")?;
    let before = scene.node.snapshot();
    for part in [
        "/manifests/",
        // The first layer is here already.
        image.layers[1].digest.as_str(),
        image.config.digest.as_str(),
    ] {
        for status in [401, 403, 404, 500] {
            scene.registry.fail(part, Fault::Status(status));
            let number = status.to_string();
            let word = match status {
                401 => "unauthorized",
                403 => "denied",
                404 => "not found",
                _ => number.as_str(),
            };
            let answer = scene.node.client.pull(&name).await;
            let message = answer
                .as_ref()
                .err()
                .map(|status| status.message().to_lowercase())
                .unwrap_or_default();
            refused(answer, ANY, &[]).with_context(|| format!("{status} for {part}"))?;
            ensure!(
                message.contains(word) || message.contains(&number),
                "{status} for {part}: {message}"
            );
            scene.registry.heal();
        }
    }
    nothing_stored(&scene, &before, &name).await?;
    scene
        .node
        .client
        .pull(&name)
        .await
        .context("when the registry is well again")?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_waited_out_or_named() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let (_, name) = fresh(&scene, "busy")?;
    scene.registry.fail("/manifests/", Fault::Status(429));
    let answer = scene.node.client.pull(&name).await;
    let message = answer
        .as_ref()
        .err()
        .map(|status| status.message().to_lowercase())
        .unwrap_or_default();
    refused(answer, ANY, &[])?;
    ensure!(
        message.contains("429") || message.contains("too many requests"),
        "{message}"
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_that_are_not_what_they_should_be() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    for (kind, fault) in [
        ("truncated", Fault::Truncate),
        ("corrupt", Fault::Corrupt),
        ("other", Fault::Replace(b"something else".to_vec())),
        ("empty", Fault::Replace(Vec::new())),
    ] {
        let (image, name) = fresh(&scene, kind)?;
        for blob in [&image.layers[1], &image.config] {
            let before = scene.node.snapshot();
            let short = &blob.digest["sha256:".len()..][..12];
            scene.registry.fail(&blob.digest, fault.clone());
            refused(scene.node.client.pull(&name).await, ANY, &[short])
                .with_context(|| format!("{kind} {}", blob.media_type))?;
            scene.registry.heal();
            nothing_stored(&scene, &before, &name).await?;
        }
        scene
            .node
            .client
            .pull(&name)
            .await
            .with_context(|| format!("{kind}: when it is well again"))?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_no_archive() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    for (kind, bytes) in [
        ("garbage", vec![0x5a_u8; 4096]),
        (
            "gzip-of-garbage",
            vec![
                0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9,
            ],
        ),
    ] {
        let before = scene.node.snapshot();
        let (mut image, _) = fresh(&scene, kind)?;
        let bad = Blob::new(&image.layers[1].media_type.clone(), bytes);
        image.manifest = replaced_layer(&image, &bad)?;
        image.layers[1] = bad;
        let name = scene.registry.add("test/bad", kind, &image);
        let short = image.layers[1].digest["sha256:".len()..][..12].to_owned();
        refused(scene.node.client.pull(&name).await, ANY, &[&short])?;
        nothing_stored(&scene, &before, &name).await?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_make_no_sense() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let oci = "application/vnd.oci.image.manifest.v1+json";
    for (kind, media_type, text) in [
        ("not-json", oci, "this is no manifest".to_owned()),
        ("empty-object", oci, "{}".to_owned()),
        (
            "schema-1",
            "application/vnd.docker.distribution.manifest.v1+json",
            r#"{"schemaVersion":1}"#.to_owned(),
        ),
        (
            "no-layers-list",
            oci,
            r#"{"schemaVersion":2,"config":{"digest":"x","size":1}}"#.to_owned(),
        ),
        (
            "negative-size",
            oci,
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{oci}","config":{{"mediaType":"a","digest":"sha256:{0}","size":-1}},"layers":[]}}"#,
                "0".repeat(64)
            ),
        ),
        (
            "huge",
            oci,
            format!(
                r#"{{"schemaVersion":2,"padding":"{}"}}"#,
                "x".repeat(8 << 20)
            ),
        ),
        (
            "no-platform",
            "application/vnd.oci.image.index.v1+json",
            r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(),
        ),
    ] {
        let before = scene.node.snapshot();
        scene.registry.add_manifest(
            "test/manifest",
            kind,
            &Blob::new(media_type, text.into_bytes()),
        );
        let name = format!("{}/test/manifest:{kind}", scene.registry.host());
        // An empty list says so instead of listing nothing.
        let part = match kind {
            "no-platform" => "it has no images at all",
            _ => "test/manifest",
        };
        refused(
            scene.node.client.pull(&name).await,
            ANY,
            &["test/manifest", part],
        )
        .context(kind)?;
        nothing_stored(&scene, &before, &name).await?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn image_configs_that_make_no_sense() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let zeros = format!("sha256:{}", "0".repeat(64));
    for (kind, change) in [
        ("not-json", None),
        ("no-root", Some(("rootfs", json!(null)))),
        (
            "no-layers",
            Some(("rootfs", json!({"type": "layers", "diff_ids": []}))),
        ),
        (
            "other-layers",
            Some((
                "rootfs",
                json!({"type": "layers", "diff_ids": [zeros, zeros]}),
            )),
        ),
        ("env-is-a-number", Some(("config", json!({"Env": 5})))),
    ] {
        let before = scene.node.snapshot();
        let (mut image, _) = fresh(&scene, kind)?;
        let bytes = match change {
            None => b"this is no configuration".to_vec(),
            Some((key, value)) => {
                let mut config: serde_json::Value = serde_json::from_slice(&image.config.bytes)?;
                config[key] = value;
                serde_json::to_vec(&config)?
            }
        };
        image.config = Blob::new(&image.config.media_type.clone(), bytes);
        let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest.bytes)?;
        manifest["config"] = image.config.descriptor();
        image.manifest = Blob::new(
            &image.manifest.media_type.clone(),
            serde_json::to_vec(&manifest)?,
        );
        let name = scene.registry.add("test/config", kind, &image);
        refused(
            scene.node.client.pull(&name).await,
            ANY,
            &["test/config", "sha256:"],
        )
        .context(kind)?;
        nothing_stored(&scene, &before, &name).await.context(kind)?;
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_holds_nobody_up() -> Result<()> {
    skip_unless!(possible());
    let options = crioxide_test_support::NodeOptions {
        image_keys: "pull_progress_timeout = \"2s\"".to_owned(),
        ..Default::default()
    };
    let scene = Scene::start_with(options).await?;
    let (image, name) = fresh(&scene, "hangs")?;
    scene.registry.fail(&image.layers[1].digest, Fault::Hang);
    let hanging = {
        let (client, name) = (scene.node.client.clone(), name.clone());
        tokio::spawn(async move { client.pull(&name).await })
    };
    // Others are served meanwhile.
    let (_, id) = scene
        .node
        .run(
            &scene.node.pod("meanwhile"),
            &scene.node.container("main", &scene.image, &["true"]),
            "",
        )
        .await?;
    scene.node.exited(&id).await?;
    refused(
        hanging.await?,
        &[
            Code::DeadlineExceeded,
            Code::Unknown,
            Code::Unavailable,
            Code::Cancelled,
            Code::Internal,
        ],
        &["no response", &scene.registry.host(), "2s"],
    )?;
    scene.registry.heal();
    scene
        .node
        .client
        .pull(&name)
        .await
        .context("when the registry is well again")?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_cannot_reach_out_of_its_root() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let outside = scene.node.place().base().join("outside");
    std::fs::create_dir(&outside)?;
    let target = outside.display().to_string();
    let layer = Layer::new()
        .symbolic_link("escape", &target)
        .file("escape/planted", b"no", 0o644);
    let image = ImageBuilder::busybox(Format::Oci)?
        .layer(layer, Compression::Gzip)
        .build()?;
    let name = scene.registry.add("test/escape", "1", &image);
    // Refused or unpacked inside the root: both are fine, a file outside is not.
    let answer = scene.node.client.pull(&name).await;
    ensure!(
        std::fs::read_dir(&outside)?.next().is_none(),
        "the layer wrote outside ({answer:?})"
    );
    scene.node.finish().await
}

/// An image of busybox and a small layer of its own, so that a pull has something new to fetch.
fn fresh(scene: &Scene, tag: &str) -> Result<(Image, String)> {
    let layer = Layer::new().file("tag", tag.repeat(1000).as_bytes(), 0o644);
    let image = ImageBuilder::busybox(Format::Oci)?
        .layer(layer, Compression::Gzip)
        .build()?;
    let name = scene.registry.add("test/fresh", tag, &image);
    Ok((image, name))
}

fn replaced_layer(image: &Image, layer: &Blob) -> Result<Blob> {
    let mut manifest: serde_json::Value = serde_json::from_slice(&image.manifest.bytes)?;
    manifest["layers"][1] = layer.descriptor();
    Ok(Blob::new(
        &image.manifest.media_type,
        serde_json::to_vec(&manifest)?,
    ))
}

/// No image of this name and no layer, file or mount more than before.
async fn nothing_stored(scene: &Scene, before: &HostSnapshot, name: &str) -> Result<()> {
    ensure!(
        scene.node.client.image_status(name).await?.is_none(),
        "{name} is listed"
    );
    scene.node.nothing_left(before).await
}
