//! Old and unusual forms of images.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crioxide_pull::{FileImage, LoadRequest};

use crate::debian_registry::{has, skopeo};
use crate::fixture::{Fixture, is_root};
use crate::image::{Image, Packing, digest, noise, pack, tar};
use crate::server::{Reply, Server};

fn load(text: &str, name: &str) -> LoadRequest {
    LoadRequest {
        image: FileImage::parse(text).unwrap(),
        names: vec![name.to_owned()],
        progress: None,
    }
}

/// What `program` makes of `input`.
fn through(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
    let feeding = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    assert!(output.status.success(), "{program}");
    output.stdout
}

/// The content of a file in the only layer of an image.
fn content(fixture: &Fixture, id: &str, path: &str) -> Vec<u8> {
    let record = fixture.images().lookup(id).unwrap().unwrap();
    let layer = crioxide_store::LayerId::parse(&record.layer).unwrap();
    let directory = fixture.store.layer_content(&layer).unwrap();
    std::fs::read(directory.join(path)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_in_all_compressions_are_unpacked() {
    if !is_root() || !has(&["xz", "bzip2"]) {
        return;
    }
    let data = noise(300_000);
    let plain = tar(&[("etc/hostname", b"one"), ("data", &data)]);
    let halves = plain.split_at(plain.len() / 2);
    // As eStargz: many members, the last one empty; as zstd:chunked: many frames, and others to be skipped.
    let members = [
        pack(halves.0, Packing::Gzip),
        pack(halves.1, Packing::Gzip),
        pack(b"", Packing::Gzip),
    ];
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let frames = [
        pack(halves.0, Packing::Zstd),
        skipped.to_vec(),
        pack(halves.1, Packing::Zstd),
        skipped.to_vec(),
    ];
    for (number, blob) in [
        through("xz", &["-c"], &plain),
        through("bzip2", &["-c"], &plain),
        members.concat(),
        frames.concat(),
    ]
    .into_iter()
    .enumerate()
    {
        let config = format!(
            r#"{{"os":"linux","number":{number},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            digest(&plain)
        );
        let image = Image::assemble(config.into_bytes(), vec![blob], vec![plain.clone()]);
        let served = image.clone();
        let server = Server::start(move |request| served.answer(request)).await;
        let host = server.address.to_string();
        let fixture = Fixture::insecure(&host);
        let pulled = fixture.pull(&format!("{host}/app:one")).await.unwrap();
        assert_eq!(pulled.id.as_str(), image.id());
        assert!(
            content(&fixture, pulled.id.as_str(), "data") == data,
            "{number}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_layers_come_from_elsewhere_and_without_credentials() {
    if !is_root() {
        return;
    }
    let mut image = Image::new(&[(tar(&[("a", b"1")]), Packing::Gzip)], "");
    let (blob, layer) = (image.layers[0].clone(), digest(&image.layers[0]));
    let elsewhere = Server::start(move |_| Reply::new(200, blob.clone())).await;
    let broken = Server::start(|_| Reply::new(404, "")).await;
    let urls = format!(
        r#""urls":["http://{}/x","http://{}/y"],"digest":"{layer}""#,
        broken.address, elsewhere.address
    );
    let manifest = String::from_utf8(image.manifest.clone()).unwrap();
    image.manifest = manifest
        .replace(&format!(r#""digest":"{layer}""#), &urls)
        .into_bytes();
    let served = image.clone();
    let server = Server::start(move |request| {
        if request.path.contains(&layer) {
            return Reply::new(404, "");
        }
        if request.header("authorization").is_none() {
            return Reply::new(401, "").header("www-authenticate", "Basic realm=\"x\"");
        }
        served.answer(request)
    })
    .await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    let auth = format!(r#"{{"auths":{{"{host}":{{"auth":"dTpw"}}}}}}"#);
    std::fs::write(fixture.path("auth.json"), auth).unwrap();
    let pulled = fixture.pull(&format!("{host}/app:one")).await.unwrap();
    assert_eq!(content(&fixture, pulled.id.as_str(), "a"), b"1");
    assert_eq!((broken.count("/x"), elsewhere.count("/y")), (1, 1));
    for request in broken.requests().iter().chain(&elsewhere.requests()) {
        assert_eq!(request.header("authorization"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_layers_are_named() {
    if !is_root() {
        return;
    }
    let mut image = Image::new(&[(tar(&[("a", b"1")]), Packing::Gzip)], "");
    let manifest = String::from_utf8(image.manifest).unwrap();
    image.manifest = manifest
        .replace("layer.v1.tar+gzip", "layer.v1.tar+gzip+encrypted")
        .into_bytes();
    let served = image.clone();
    let server = Server::start(move |request| served.answer(request)).await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    let text = fixture.failure(&format!("{host}/app:one")).await;
    assert!(text.contains("is encrypted"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_are_kept_apart_from_images() {
    if !is_root() {
        return;
    }
    let mut artifact = Image::assemble(
        b"{}".to_vec(),
        vec![noise(100_000), b"a small file".to_vec()],
        vec![],
    );
    let manifest = String::from_utf8(artifact.manifest.clone()).unwrap();
    artifact.manifest = manifest
        .replace(
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.example.config.v1+json",
        )
        .into_bytes();
    let served = artifact.clone();
    let server = Server::start(move |request| served.answer(request)).await;
    let host = server.address.to_string();
    let fixture = Fixture::insecure(&host);
    let name = format!("{host}/app:one");
    let pulled = fixture.pull(&name).await.unwrap();
    let digest = digest(&artifact.manifest);
    assert_eq!(format!("sha256:{}", pulled.id), digest);
    fixture.assert_empty();
    let images = fixture.images();
    let info = images.artifact(&name).unwrap().unwrap();
    assert_eq!((info.size, info.id.as_str()), (100_012, pulled.id.as_str()));
    assert_eq!(images.artifacts().unwrap(), [info]);
    for blob in artifact
        .layers
        .iter()
        .chain([&artifact.config, &artifact.manifest])
    {
        let name = crate::image::digest(blob).replace(':', "/");
        let path = fixture.path("root/artifacts/blobs").join(name);
        assert!(std::fs::read(path).unwrap() == *blob);
    }
    // By list, and once more: nothing is fetched again.
    let blobs = server.count("/blobs/");
    let listed = fixture.pull(&format!("{host}/app:list")).await.unwrap();
    assert_eq!((listed.id, server.count("/blobs/")), (pulled.id, blobs));
    assert_eq!(images.artifacts().unwrap().len(), 2);
    assert!(images.remove_artifact(&name).unwrap());
    assert!(images.remove_artifact(&format!("{host}/app:list")).unwrap());
    let left = std::fs::read_dir(fixture.path("root/artifacts/blobs/sha256")).unwrap();
    assert_eq!(left.count(), 0);
    if has(&["skopeo"]) {
        fixture.pull(&name).await.unwrap();
        let layout = format!("oci:{}:{name}", fixture.path("root/artifacts").display());
        skopeo(&["inspect", "--raw", &layout]);
    }
}

/// The id under which containers/image stores what is in a directory.
fn id_by_skopeo(work: &Path, directory: &Path) -> String {
    let (root, run) = (work.join("their-root"), work.join("their-run"));
    let target = format!(
        "containers-storage:[vfs@{}+{}]localhost/old:1",
        root.display(),
        run.display()
    );
    skopeo(&[
        "copy",
        "-q",
        &format!("dir:{}", directory.display()),
        &target,
    ]);
    let records = std::fs::read(root.join("vfs-images/images.json")).unwrap();
    let records: serde_json::Value = serde_json::from_slice(&records).unwrap();
    records[0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_1_gets_the_id_that_other_tools_give_it() {
    if !is_root() || !has(&["skopeo"]) {
        return;
    }
    let tars = vec![
        tar(&[("etc/hostname", b"one"), ("big", &noise(100_000))]),
        tar(&[("two", b"2 < 3 & more")]),
    ];
    // One step of the history changes no file.
    let config = format!(
        r#"{{"created":"2023-11-14T22:13:20.5Z","author":"a <b@c>","architecture":"amd64","os":"linux","config":{{"User":"33:33","Cmd":["sh"]}},"history":[{{"created":"2023-11-14T22:13:20Z","created_by":"ADD a && b"}},{{"created":"2023-11-14T22:13:20.120Z","created_by":"CMD","empty_layer":true}},{{"created":"2023-11-14T22:13:20Z","comment":"x"}}],"rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#,
        digest(&tars[0]),
        digest(&tars[1])
    );
    let blobs = tars.iter().map(|tar| pack(tar, Packing::Gzip)).collect();
    let image = Image::assemble(config.into_bytes(), blobs, tars);
    let fixture = Fixture::new("");
    let (layout, old) = (fixture.path("layout"), fixture.path("old"));
    image.write_layout(&layout);
    skopeo(&[
        "copy",
        "-q",
        "--format",
        "v2s1",
        &format!("oci:{}", layout.display()),
        &format!("dir:{}", old.display()),
    ]);
    let manifest = std::fs::read(old.join("manifest.json")).unwrap();
    assert!(String::from_utf8_lossy(&manifest).contains("signatures"));
    let theirs = id_by_skopeo(&fixture.path(""), &old);

    // From files, from a registry by tag and by digest, and once more from what the store has.
    let wish = load(&format!("dir:{}", old.display()), "localhost/old:1");
    let loaded = fixture.puller.load(wish).await.unwrap();
    assert_eq!(loaded.id.as_str(), theirs);
    assert_ne!(
        loaded.digest.as_str(),
        digest(&manifest),
        "signatures do not count"
    );
    let info = fixture.images().status("localhost/old:1").unwrap().unwrap();
    assert_eq!(info.config.config.user, "33:33");
    assert_eq!(info.digest.unwrap(), loaded.digest);

    let (files, wanted) = (old.clone(), loaded.digest.to_string());
    let server = Server::start(move |request| {
        let name = request.path.rsplit('/').next().unwrap_or_default();
        if request.path.contains("/manifests/") {
            let right = name == "one" || name == wanted;
            return Reply::new(if right { 200 } else { 404 }, manifest.clone()).header(
                "content-type",
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
            );
        }
        match std::fs::read(files.join(name.trim_start_matches("sha256:"))) {
            Ok(bytes) => Reply::new(200, bytes),
            Err(_) => Reply::new(404, ""),
        }
    })
    .await;
    let host = server.address.to_string();
    let fresh = Fixture::insecure(&host);
    let pulled = fresh.pull(&format!("{host}/old:one")).await.unwrap();
    assert_eq!(pulled.id.as_str(), theirs);
    let blobs = server.count("/blobs/");
    let by_digest = format!("{host}/old@{}", loaded.digest);
    assert_eq!(fresh.pull(&by_digest).await.unwrap().id.as_str(), theirs);
    // Only the sizes were asked for.
    assert_eq!(server.count("/blobs/"), blobs + 2);
    assert_eq!(content(&fresh, &theirs, "two"), b"2 < 3 & more");
    fresh.images().remove(&theirs).unwrap();
    fresh.assert_empty();
}
