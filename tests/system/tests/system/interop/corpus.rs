//! Whatever form an image has in its registry: others get out of our store what they get out of one of their own.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use crioxide_test_support::image::{
    Compression, Format, Image, ImageBuilder, Layer, architecture, busybox_layer, index,
};
use crioxide_test_support::{requirements, skip_unless};

use super::{run, utf8};
use crate::scene::{Scene, possible};

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_the_same_from_ours_as_from_theirs() -> Result<()> {
    skip_unless!(possible(), requirements::program("skopeo"));
    let scene = Scene::start().await?;
    let place = scene.node.place();
    let theirs = place.base().join("theirs");
    for name in offer(&scene)? {
        scene
            .node
            .client
            .pull(&name)
            .await
            .with_context(|| format!("PullImage of {name}"))?;
        let store = |root: &Path, run: &Path| {
            format!(
                "containers-storage:[overlay@{}+{}]{name}",
                root.display(),
                run.display()
            )
        };
        let their_store = store(&theirs.join("root"), &theirs.join("run"));
        let registry = format!("docker://{name}");
        skopeo(&["--src-tls-verify=false", &registry, &their_store]).await?;
        let ours = copied_out(&store(place.root(), &place.runroot()), place.base()).await?;
        let their = copied_out(&their_store, place.base()).await?;
        ensure!(ours.len() >= 3, "{name}: {:?}", ours.keys());
        ensure!(
            ours.keys().eq(their.keys()),
            "{name}: {:?} and {:?}",
            ours.keys(),
            their.keys()
        );
        for (file, bytes) in &ours {
            ensure!(their[file] == *bytes, "{name}: {file} differs");
        }
    }
    run("umount", &["-l", utf8(&theirs.join("root/overlay"))?])
        .await
        .ok();
    scene.node.finish().await
}

/// Images of all forms in the registry; their names.
fn offer(scene: &Scene) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for format in [Format::Oci, Format::Schema2] {
        for compression in [Compression::Plain, Compression::Gzip, Compression::Zstd] {
            // There is no type for it in Docker's format, and so no tool that takes it.
            if (format, compression) == (Format::Schema2, Compression::Zstd) {
                continue;
            }
            let tag = format!("{format:?}-{compression:?}").to_lowercase();
            let image = image(format, compression, architecture())?;
            names.push(scene.registry.add("corpus/one", &tag, &image));
        }
        let other = if architecture() == "amd64" {
            "arm64"
        } else {
            "amd64"
        };
        let mut images = Vec::new();
        for architecture in [other, architecture()] {
            images.push(image(format, Compression::Gzip, architecture)?);
        }
        for image in &images {
            scene.registry.add("corpus/list", "part", image);
        }
        let tag = format!("{format:?}").to_lowercase();
        scene
            .registry
            .add_manifest("corpus/list", &tag, &index(format, &images)?);
        names.push(format!("{}/corpus/list:{tag}", scene.registry.host()));
    }
    Ok(names)
}

fn image(format: Format, compression: Compression, architecture: &str) -> Result<Image> {
    let below = Layer::new()
        .directory("data", 0o1777)
        .file("data/hidden", b"old", 0o4755)
        .directory("data/opaque", 0o700)
        .file("data/opaque/old", &[7; 70_000], 0o644)
        .owned_by(33, 50_000)
        .file("data/first", architecture.as_bytes(), 0o640)
        .hard_link("data/second", "data/first")
        .symbolic_link("data/link", "../data/first");
    let above = Layer::new()
        .directory("data", 0o755)
        .whiteout("data", "hidden")
        .directory("data/opaque", 0o755)
        .file("data/opaque/.wh..wh..opq", b"", 0o644)
        .file("data/opaque/new", b"new", 0o644);
    ImageBuilder::new(format)
        .platform("linux", architecture)
        .layer(busybox_layer()?, compression)
        .layer(below, compression)
        .layer(above, compression)
        .annotate("org.example.kind", "corpus")
        .build()
}

/// The files that skopeo makes of an image.
async fn copied_out(image: &str, base: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let folder = tempfile::tempdir_in(base).context("make a directory for a copy")?;
    skopeo(&[image, &format!("dir:{}", folder.path().display())]).await?;
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder.path()).context("list the copy")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, std::fs::read(entry.path())?);
    }
    Ok(files)
}

async fn skopeo(arguments: &[&str]) -> Result<String> {
    let all = [&["copy", "--quiet", "--insecure-policy"], arguments].concat();
    run("skopeo", &all).await
}
