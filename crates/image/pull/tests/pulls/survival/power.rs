//! The two halves of a power cut: pulls, removals and containers until the power goes, and what is left of them. They run in a
//! virtual machine whose power `vmrun powercut` cuts (see docs/testing.md); as tests they do nothing.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::kills::state::State;
use super::kills::{CONTAINER, create};
use crate::fixture::{Fixture, insecure};
use crate::image::{Image, Packing, digest, noise, tar};
use crate::server::{Reply, Request, Server};

/// Where the store is; without it there is nothing to do.
const PLACE: &str = "CRIOXIDE_TEST_POWER";
const DRIVER: &str = "CRIOXIDE_TEST_DRIVER";
/// What the first half printed last, on the second.
const BEFORE: &str = "/run/vmrun/before";
/// The registry has the same name on both halves.
const HOST: &str = "127.0.0.1:5057";
/// An emulated machine is slow, and its registry with it.
const PATIENCE: Duration = Duration::from_secs(120);
/// So many images are kept.
const KEPT: usize = 4;

/// Says which images are there for good, and goes on until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn until_it_goes() {
    let Some((place, driver)) = place() else {
        return;
    };
    let _server = registry().await;
    let fixture = Fixture::patient(&place, &driver, &insecure(HOST), PATIENCE);
    let mut promised = Vec::new();
    for number in 0_u32.. {
        fixture.pull(&name(number)).await.unwrap();
        promised.push(number);
        say(&promised);
        create(&fixture.store, &name(number));
        fixture.store.delete_container(CONTAINER).unwrap();
        if promised.len() > KEPT {
            let oldest = promised.remove(0);
            say(&promised);
            fixture.images().remove(&name(oldest)).unwrap();
        }
        if number % 3 == 0 {
            create(&fixture.store, &name(number));
            fixture.store.delete_container(CONTAINER).unwrap();
        }
    }
}

/// Everything that was promised is there, byte for byte, and the store works.
#[tokio::test(flavor = "multi_thread")]
async fn after_it_came_back() {
    let Some((place, driver)) = place() else {
        return;
    };
    let (promised, last) = promised(Path::new(BEFORE));
    let images: Vec<_> = promised.iter().map(|&number| image(number)).collect();
    // The one that was being pulled, and the one that was being removed.
    let others: Vec<_> = (last.saturating_sub(KEPT as u32 + 1)..last + 2)
        .map(image)
        .collect();
    let opening = Instant::now();
    drop(crate::fixture::open(&place, &driver));
    let opened = opening.elapsed();
    let required: Vec<&Image> = images.iter().collect();
    let possible: Vec<&Image> = others.iter().collect();
    State::of(&place, &driver, &required, &possible);
    let server = registry().await;
    let fixture = Fixture::patient(&place, &driver, &insecure(HOST), PATIENCE);
    for &number in &promised {
        fixture.pull(&name(number)).await.unwrap();
    }
    for layer in images.iter().flat_map(|image| &image.layers) {
        assert_eq!(server.count(&digest(layer)), 0, "pulled again");
    }
    fixture.pull(&name(last + 1)).await.unwrap();
    create(&fixture.store, &name(last + 1));
    fixture.store.delete_container(CONTAINER).unwrap();
    drop(fixture);
    State::of(&place, &driver, &required, &possible);
    println!(
        "intact: {} of {} images, opened in {opened:?}",
        promised.len(),
        last + 1
    );
}

fn place() -> Option<(PathBuf, String)> {
    let place = std::env::var_os(PLACE)?;
    let driver = std::env::var(DRIVER).unwrap_or_else(|_| "overlay".to_owned());
    Some((PathBuf::from(place), driver))
}

fn say(promised: &[u32]) {
    let numbers: Vec<_> = promised.iter().map(ToString::to_string).collect();
    println!("promised {} .", numbers.join(" "));
    std::io::stdout().flush().unwrap();
}

/// The last whole line of promises, and the highest number in it.
fn promised(before: &Path) -> (Vec<u32>, u32) {
    let text = std::fs::read_to_string(before).unwrap();
    let whole = |line: &&str| line.starts_with("promised ") && line.ends_with(" .");
    let Some(line) = text.lines().rfind(whole) else {
        return (Vec::new(), 0);
    };
    let numbers: Vec<u32> = line
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    let last = numbers.last().copied().unwrap_or_default();
    (numbers, last)
}

fn name(number: u32) -> String {
    format!("{HOST}/app-{number}:one")
}

async fn registry() -> Server {
    let made: Mutex<HashMap<u32, Arc<Image>>> = Mutex::default();
    Server::start_at(HOST, move |request: &Request| {
        let number = request
            .path
            .strip_prefix("/v2/app-")
            .and_then(|path| path.split('/').next());
        match number.and_then(|number| number.parse().ok()) {
            Some(number) => {
                let mut made = made.lock().unwrap();
                made.retain(|&known, _| known + KEPT as u32 + 1 > number);
                let image = made
                    .entry(number)
                    .or_insert_with(|| Arc::new(image(number)));
                let image = Arc::clone(image);
                drop(made);
                image.answer(request)
            }
            None => Reply::new(200, "{}"),
        }
    })
    .await
}

/// Three layers, the lowest of which all images share.
fn image(number: u32) -> Image {
    let own = number.to_string();
    let shared = tar(&[("etc/hostname", b"shared"), ("data", &noise(100_000))]);
    let content = [own.as_bytes(), &noise(150_000)].concat();
    let names: Vec<_> = (0..30)
        .map(|file| format!("var/lib/{file}/{own}"))
        .collect();
    let mut files: Vec<(&str, &[u8])> = names
        .iter()
        .map(|name| (name.as_str(), own.as_bytes()))
        .collect();
    files.push(("var/content", &content));
    files.push(("etc/.wh.hostname", b""));
    let top = tar(&[
        ("etc/number", own.as_bytes()),
        ("var/lib/.wh..wh..opq", b""),
    ]);
    let layers = [
        (shared, Packing::Gzip),
        (tar(&files), Packing::Zstd),
        (top, Packing::Plain),
    ];
    Image::new(&layers, "")
}
