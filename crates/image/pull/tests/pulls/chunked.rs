//! Layers of zstd:chunked, of which only what is missing is fetched.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crioxide_store::{CheckDepth, content_crc};
use serde_json::{Value, json};

use crate::fixture::{Fixture, is_root};
use crate::image::{Image, Packing, digest, noise, tar};
use crate::server::{Reply, Request, Server};

/// A blob and the annotations of its descriptor.
struct Chunked {
    blob: Vec<u8>,
    annotations: Value,
}

fn frame(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn skippable(blob: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    blob.extend([0x50, 0x2a, 0x4d, 0x18]);
    blob.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    blob.extend(bytes);
    blob.len() - bytes.len()..blob.len()
}

/// Packs a tar as zstd:chunked. Files are cut in chunks of at most `chunk` bytes; one that is all zeros is marked so.
/// `forge` may change the table.
fn chunked(tar: &[u8], chunk: usize, forge: impl FnOnce(&mut Vec<Value>)) -> Chunked {
    let (mut blob, mut entries, mut split) = (Vec::new(), Vec::new(), String::new());
    let mut line = |value: Value| split.push_str(&format!("{value}\n"));
    let mut done = 0;
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let start = usize::try_from(entry.raw_file_position()).unwrap();
        let content = &tar[start..start + usize::try_from(entry.size()).unwrap()];
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        line(json!({"type": 2, "payload": STANDARD.encode(&tar[done..start]), "position": 0}));
        let mut crc = content_crc();
        crc.update(content);
        let crc = STANDARD.encode(crc.finalize().to_be_bytes());
        line(
            json!({"type": 1, "name": name, "size": content.len(), "payload": crc, "position": 0}),
        );
        blob.extend(frame(&tar[done..start]));
        done = start + content.len();
        let mut parts = Vec::new();
        for (index, piece) in content.chunks(chunk).enumerate() {
            let offset = blob.len();
            blob.extend(frame(piece));
            let zeros = piece.iter().all(|byte| *byte == 0);
            parts.push(json!({
                "type": "chunk", "name": name, "offset": offset, "chunkSize": piece.len(),
                "chunkOffset": index * chunk, "chunkDigest": digest(piece),
                "chunkType": if zeros { "zeros" } else { "" },
            }));
        }
        if let Some(first) = parts.first_mut() {
            first["type"] = "reg".into();
            first["size"] = content.len().into();
            first["digest"] = digest(content).into();
            first["endOffset"] = blob.len().into();
        }
        entries.extend(parts);
    }
    line(json!({"type": 2, "payload": STANDARD.encode(&tar[done..]), "position": 0}));
    blob.extend(frame(&tar[done..]));
    forge(&mut entries);
    let compressed = frame(split.as_bytes());
    let toc = json!({"version": 1, "entries": entries, "tarSplitDigest": digest(&compressed)});
    let toc = toc.to_string();
    let table = frame(toc.as_bytes());
    let place = |range: Range<usize>, size| format!("{}:{}:{size}", range.start, range.len());
    let toc_place = place(skippable(&mut blob, &table), toc.len());
    let split_place = place(skippable(&mut blob, &compressed), split.len());
    let prefix = "io.github.containers.zstd-chunked";
    let annotations = json!({
        format!("{prefix}.manifest-checksum"): digest(&table),
        format!("{prefix}.manifest-position"): format!("{toc_place}:1"),
        format!("{prefix}.tarsplit-position"): split_place,
    });
    Chunked { blob, annotations }
}

fn image(tar: Vec<u8>, layer: Chunked) -> Image {
    let config = format!(
        r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        digest(&tar)
    );
    let mut image = Image::assemble(config.into_bytes(), vec![layer.blob], vec![tar]);
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["layers"][0]["annotations"] = layer.annotations;
    image.manifest = manifest.to_string().into_bytes();
    image
}

/// Answers with the part that is asked for.
fn part_of(blob: &[u8], request: &Request) -> Option<Reply> {
    let range = request.header("range")?.strip_prefix("bytes=")?;
    let (first, last) = range.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let last = last.parse().unwrap_or(blob.len() - 1).min(blob.len() - 1);
    let range = format!("bytes {first}-{last}/{}", blob.len());
    Some(Reply::new(206, &blob[first..=last]).header("content-range", range))
}

/// A registry with an image, and how many bytes of its layer it has sent.
async fn serve(image: &Image, ranges: bool) -> (Server, Arc<AtomicUsize>) {
    let (served, sent) = (image.clone(), Arc::new(AtomicUsize::new(0)));
    let count = sent.clone();
    let server = Server::start(move |request| {
        let blob = &served.layers[0];
        if !request.path.ends_with(&digest(blob)) {
            return served.answer(request);
        }
        let part = part_of(blob, request).filter(|_| ranges);
        let reply = part.unwrap_or_else(|| Reply::new(200, blob.clone()));
        count.fetch_add(reply.body().len(), Ordering::Relaxed);
        reply
    });
    (server.await, sent)
}

/// Names and contents.
type Files = Vec<(&'static str, Vec<u8>)>;

/// The files of two versions of an image: most are the same.
fn versions() -> (Files, Files) {
    let large = noise(3_000_000);
    let (other, mut zeros) = (noise(1_500_000).split_off(700_000), vec![0; 300_000]);
    zeros.extend(noise(200_000).split_off(100_000));
    let old = vec![
        ("bin/app", large.clone()),
        ("lib/same", other.clone()),
        ("etc/empty", Vec::new()),
    ];
    let new = vec![
        ("bin/app", large[..200_000].to_vec()),
        ("bin/renamed", large),
        ("lib/same", other),
        ("lib/sparse", zeros),
        ("etc/empty", Vec::new()),
        ("etc/new", b"new".to_vec()),
    ];
    (old, new)
}

fn packed(files: &[(&'static str, Vec<u8>)]) -> Vec<u8> {
    let files: Vec<_> = files
        .iter()
        .map(|(name, content)| (*name, &content[..]))
        .collect();
    tar(&files)
}

/// A store with the old version, pulled in the ordinary way, with what puts hosts into its configuration.
async fn with_old(host: &str) -> Fixture {
    let (old, _) = versions();
    let image = Image::new(&[(packed(&old), Packing::Gzip)], "");
    let served = image.clone();
    let server = Server::start(move |request| served.answer(request)).await;
    let old_host = server.address.to_string();
    let table = |host: &str| format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
    let fixture = Fixture::new(&format!("{}{}", table(&old_host), table(host)));
    fixture.pull(&format!("{old_host}/app:one")).await.unwrap();
    fixture
}

async fn assert_is_there(fixture: &Fixture, host: &str, image: &Image) {
    let pulled = fixture.pull(&format!("{host}/app:one")).await.unwrap();
    assert_eq!(pulled.id.as_str(), image.id());
    let record = fixture
        .images()
        .lookup(pulled.id.as_str())
        .unwrap()
        .unwrap();
    let layer = crioxide_store::LayerId::parse(&record.layer).unwrap();
    let content = fixture.store.layer_content(&layer).unwrap();
    for (name, expected) in versions().1 {
        let found = std::fs::read(content.join(name)).unwrap();
        assert!(found == expected, "{name} differs");
    }
    let problems = fixture.store.check(CheckDepth::Digests).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_no_layer_has_is_fetched() {
    if !is_root() {
        return;
    }
    let tar = packed(&versions().1);
    for chunk in [usize::MAX >> 1, 65_536] {
        let image = image(tar.clone(), chunked(&tar, chunk, |_| ()));
        let (server, sent) = serve(&image, true).await;
        let host = server.address.to_string();
        let fixture = with_old(&host).await;
        assert_is_there(&fixture, &host, &image).await;
        let (sent, size) = (sent.load(Ordering::Relaxed), image.layers[0].len());
        println!("{sent} of {size} bytes, chunks of {chunk}");
        // 200,000 bytes of one file, 100,000 behind the zeros of another one, the table and the tar-split.
        assert!((300_000..330_000).contains(&sent), "{sent} of {size} bytes");
        // What was not read whole is not said to be what its digest says.
        let layers = fixture.store.layers().unwrap();
        let partial = layers
            .iter()
            .find(|layer| layer.compressed_diff_digest.is_empty());
        assert_eq!(partial.unwrap().diff_digest, digest(&tar));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_ranges_gives_the_whole() {
    if !is_root() {
        return;
    }
    let tar = packed(&versions().1);
    let image = image(tar.clone(), chunked(&tar, 65_536, |_| ()));
    let (server, _) = serve(&image, false).await;
    let host = server.address.to_string();
    let fixture = with_old(&host).await;
    assert_is_there(&fixture, &host, &image).await;
    let blob = digest(&image.layers[0]);
    let layers = fixture.store.layers().unwrap();
    assert!(
        layers
            .iter()
            .any(|layer| layer.compressed_diff_digest == blob)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_the_table_says_is_fetched_whole() {
    if !is_root() {
        return;
    }
    let tar = packed(&versions().1);
    let find = |entries: &mut Vec<Value>, name: &str| {
        entries
            .iter()
            .position(|entry| entry["name"] == name)
            .unwrap()
    };
    type Forge<'a> = Box<dyn FnOnce(&mut Vec<Value>) + 'a>;
    let forgeries: Vec<(&str, Forge<'_>)> = vec![
        (
            "another file's content",
            Box::new(|entries| {
                let (to, from) = (find(entries, "etc/new"), find(entries, "bin/app"));
                let other = entries[from].clone();
                for key in ["offset", "endOffset"] {
                    entries[to][key] = other[key].clone();
                }
            }),
        ),
        (
            "another digest",
            Box::new(|entries| {
                let at = find(entries, "etc/new");
                entries[at]["digest"] = digest(b"old").into();
            }),
        ),
        (
            "a file is missing",
            Box::new(|entries| {
                let at = find(entries, "etc/new");
                entries.remove(at);
            }),
        ),
        (
            "outside of the blob",
            Box::new(|entries| {
                let at = find(entries, "etc/new");
                entries[at]["endOffset"] = (1_u64 << 40).into();
            }),
        ),
        (
            "another size",
            Box::new(|entries| {
                let at = find(entries, "etc/new");
                entries[at]["size"] = 4.into();
            }),
        ),
    ];
    for (what, forge) in forgeries {
        println!("{what}");
        let image = image(tar.clone(), chunked(&tar, usize::MAX >> 1, forge));
        let (server, _) = serve(&image, true).await;
        let host = server.address.to_string();
        let fixture = with_old(&host).await;
        assert_is_there(&fixture, &host, &image).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_changed_is_not_taken() {
    if !is_root() {
        return;
    }
    let tar = packed(&versions().1);
    let image = image(tar.clone(), chunked(&tar, 65_536, |_| ()));
    let (server, _) = serve(&image, true).await;
    let host = server.address.to_string();
    let fixture = with_old(&host).await;
    let layer = fixture.store.layers().unwrap()[0].id.clone();
    let layer = crioxide_store::LayerId::parse(&layer).unwrap();
    let file = fixture
        .store
        .layer_content(&layer)
        .unwrap()
        .join("lib/same");
    let content = std::fs::read(&file).unwrap();
    std::fs::write(&file, vec![1; content.len()]).unwrap();
    let pulled = fixture.pull(&format!("{host}/app:one")).await.unwrap();
    assert_eq!(pulled.id.as_str(), image.id());
    let record = fixture
        .images()
        .lookup(pulled.id.as_str())
        .unwrap()
        .unwrap();
    let layer = crioxide_store::LayerId::parse(&record.layer).unwrap();
    let taken = fixture
        .store
        .layer_content(&layer)
        .unwrap()
        .join("lib/same");
    assert!(std::fs::read(taken).unwrap() == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_blob_without_tar_split_is_fetched_whole() {
    if !is_root() {
        return;
    }
    let tar = packed(&versions().1);
    let mut layer = chunked(&tar, 65_536, |_| ());
    let annotations = layer.annotations.as_object_mut().unwrap();
    annotations.retain(|key, _| !key.contains("tarsplit"));
    let image = image(tar, layer);
    let (server, sent) = serve(&image, true).await;
    let host = server.address.to_string();
    let fixture = with_old(&host).await;
    assert_is_there(&fixture, &host, &image).await;
    assert_eq!(sent.load(Ordering::Relaxed), image.layers[0].len());
}
