//! Images in files.

use std::path::Path;
use std::process::Command;

use crioxide_pull::{FileImage, LoadRequest};

use crate::fixture::{Fixture, is_root};
use crate::image::{Image, Packing, digest, pack, tar};

fn request(text: &str, names: &[&str]) -> LoadRequest {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    LoadRequest {
        image: FileImage::parse(text).unwrap(),
        names,
        progress: None,
    }
}

fn tar_of(directory: &Path, archive: &Path) {
    let mut builder = tar::Builder::new(std::fs::File::create(archive).unwrap());
    builder.append_dir_all(".", directory).unwrap();
    builder.finish().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn layouts_are_loaded_from_directories_and_archives() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let fixture = Fixture::new("");
    let layout = fixture.path("layout");
    image.write_layout(&layout);
    tar_of(&layout, &fixture.path("layout.tar"));
    let bytes = std::fs::read(fixture.path("layout.tar")).unwrap();
    std::fs::write(fixture.path("layout.tar.gz"), pack(&bytes, Packing::Gzip)).unwrap();
    let named = format!("oci:{}:quay.io/team/app:one", layout.display());
    let archive = format!("oci-archive:{}", fixture.path("layout.tar").display());
    let packed = format!("oci-archive:{}", fixture.path("layout.tar.gz").display());
    for text in [format!("oci:{}", layout.display()), named, archive, packed] {
        let loaded = fixture.puller.load(request(&text, &[])).await.unwrap();
        assert_eq!(loaded.id.as_str(), image.id());
        assert_eq!(loaded.digest.as_str(), digest(&image.manifest));
        assert_eq!(loaded.names[0].to_string(), "quay.io/team/app:one");
        fixture.images().remove(&image.id()).unwrap();
        fixture.assert_empty();
    }
    let missing = format!("oci:{}:quay.io/other:1", layout.display());
    let error = fixture
        .puller
        .load(request(&missing, &[]))
        .await
        .unwrap_err();
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("0 images named"),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_save_files_are_loaded() {
    if !is_root() {
        return;
    }
    let image = Image::new(
        &[
            (tar(&[("etc/a", b"1")]), Packing::Plain),
            (tar(&[("etc/b", b"2")]), Packing::Plain),
        ],
        "",
    );
    let compressed = pack(&image.tars[1], Packing::Gzip);
    let manifest = r#"[{"Config":"cfg.json","RepoTags":["app:1","quay.io/x/app"],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let archive = tar(&[
        ("cfg.json", &image.config),
        ("a/layer.tar", &image.tars[0]),
        ("b/layer.tar", &compressed),
        ("manifest.json", manifest.as_bytes()),
    ]);
    let fixture = Fixture::new("");
    std::fs::write(fixture.path("saved.tar"), archive).unwrap();
    let text = format!("docker-archive:{}", fixture.path("saved.tar").display());
    let loaded = fixture.puller.load(request(&text, &[])).await.unwrap();
    let names: Vec<_> = loaded.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["docker.io/library/app:1", "quay.io/x/app:latest"]);
    assert_eq!(loaded.id.as_str(), image.id());
    assert_eq!(fixture.store.layers().unwrap().len(), 2);
    let renamed = fixture
        .puller
        .load(request(&text, &["quay.io/y:2"]))
        .await
        .unwrap();
    assert_eq!(renamed.names[0].to_string(), "quay.io/y:2");
    assert_eq!(fixture.images().list().unwrap()[0].repo_tags.len(), 3);
    let one = fixture
        .puller
        .load(request(&format!("{text}:app:1"), &[]))
        .await
        .unwrap();
    assert_eq!(one.names.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_are_loaded_and_flaws_are_named() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let fixture = Fixture::new("");
    let directory = fixture.path("dir");
    std::fs::create_dir(&directory).unwrap();
    for (name, content) in image.blobs() {
        std::fs::write(directory.join(&name["sha256:".len()..]), content).unwrap();
    }
    std::fs::write(directory.join("manifest.json"), &image.manifest).unwrap();
    let text = format!("dir:{}", directory.display());
    let loaded = fixture.puller.load(request(&text, &["app"])).await.unwrap();
    assert_eq!(loaded.names[0].to_string(), "docker.io/library/app:latest");
    fixture.images().remove(&image.id()).unwrap();
    let layer = directory.join(&digest(&image.layers[1])["sha256:".len()..]);
    std::fs::remove_file(&layer).unwrap();
    assert!(fixture.puller.load(request(&text, &["app"])).await.is_err());
    fixture.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_skopeo_writes_is_loaded() {
    if !is_root() {
        return;
    }
    if Command::new("skopeo").arg("--version").output().is_err() {
        println!("skipped: needs skopeo");
        return;
    }
    let image = Image::simple();
    let fixture = Fixture::new("");
    let layout = fixture.path("layout");
    image.write_layout(&layout);
    let file = |name: &str| fixture.path(name).display().to_string();
    for (target, text) in [
        (
            format!("docker-archive:{}:quay.io/x/app:1", file("save.tar")),
            format!("docker-archive:{}", file("save.tar")),
        ),
        (
            format!("oci-archive:{}:quay.io/x/app:1", file("oci.tar")),
            format!("oci-archive:{}", file("oci.tar")),
        ),
        (
            format!("dir:{}", file("dir")),
            format!("dir:{}", file("dir")),
        ),
    ] {
        let source = format!("oci:{}:quay.io/team/app:one", layout.display());
        let copied = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "-q", &source, &target])
            .output()
            .unwrap();
        assert!(
            copied.status.success(),
            "{}",
            String::from_utf8_lossy(&copied.stderr)
        );
        let loaded = fixture
            .puller
            .load(request(&text, &["quay.io/x/app:1"]))
            .await
            .unwrap();
        assert_eq!(fixture.store.layers().unwrap().len(), 2, "{text}");
        fixture.images().remove_id(&loaded.id).unwrap();
        fixture.assert_empty();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_other_stores_are_taken_as_they_are() {
    if !is_root() {
        return;
    }
    let image = Image::simple();
    let (first, second) = (Fixture::new(""), Fixture::new(""));
    image.write_layout(&first.path("layout"));
    let layout = format!("oci:{}", first.path("layout").display());
    first.puller.load(request(&layout, &[])).await.unwrap();
    let place = format!(
        "containers-storage:[overlay@{}+{}]",
        first.path("root").display(),
        first.path("run").display()
    );
    for name in ["quay.io/team/app:one", &image.id()[..12]] {
        let text = format!("{place}{name}");
        let loaded = second.puller.load(request(&text, &[])).await.unwrap();
        assert_eq!(loaded.id.as_str(), image.id());
        assert_eq!(loaded.digest.as_str(), digest(&image.manifest));
        assert_eq!(loaded.names[0].to_string(), "quay.io/team/app:one");
        let problems = second.store.check(crioxide_store::CheckDepth::Digests);
        assert_eq!(problems.unwrap(), []);
        second.images().remove(&image.id()).unwrap();
        second.assert_empty();
    }
    for (text, reason) in [
        (
            format!("{place}quay.io/other:1"),
            "no image `quay.io/other:1`",
        ),
        (
            "containers-storage:[/nowhere]quay.io/a:1".to_owned(),
            "there is no store",
        ),
    ] {
        let error = second.puller.load(request(&text, &[])).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(reason), "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn images_of_a_store_that_skopeo_wrote_are_taken() {
    if !is_root() || !crate::debian_registry::has(&["skopeo"]) {
        return;
    }
    let image = Image::simple();
    let fixture = Fixture::new("");
    image.write_layout(&fixture.path("layout"));
    let place = format!(
        "containers-storage:[vfs@{}+{}]localhost/app:1",
        fixture.path("theirs").display(),
        fixture.path("theirs-run").display()
    );
    let layout = format!(
        "oci:{}:quay.io/team/app:one",
        fixture.path("layout").display()
    );
    crate::debian_registry::skopeo(&["copy", &layout, &place]);
    let loaded = fixture
        .puller
        .load(request(&place, &["a.io/b:1"]))
        .await
        .unwrap();
    assert_eq!(loaded.id.as_str(), image.id());
    let problems = fixture.store.check(crioxide_store::CheckDepth::Digests);
    assert_eq!(problems.unwrap(), []);
}
