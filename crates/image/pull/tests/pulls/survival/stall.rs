//! A disk that stands still while a pull unpacks or commits: the pull ends and says so, whoever only looks is answered, and
//! all goes on when the disk does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crioxide_pull::{Progress, ProgressEvent, PullRequest};
use crioxide_store::CheckDepth;

use crate::fixture::{Fixture, insecure, is_root};
use crate::image::{Image, Packing, digest, noise, tar};
use crate::server::Server;

/// How long a pull waits for its disk.
const LIMIT: Duration = Duration::from_secs(2);

/// A file system of its own in a file. On drop it goes on and away.
#[derive(Debug)]
struct Disk {
    mount: PathBuf,
    _directory: tempfile::TempDir,
}

impl Disk {
    /// None, with the reason, where that cannot be had.
    fn new() -> Option<Arc<Self>> {
        if !is_root() {
            return None;
        }
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        let (file, mount) = (
            directory.path().join("disk"),
            directory.path().join("mount"),
        );
        std::fs::create_dir(&mount).unwrap();
        std::fs::File::create(&file)
            .unwrap()
            .set_len(256 << 20)
            .unwrap();
        let steps = [
            Command::new("mkfs.ext4").arg("-q").arg(&file).output(),
            Command::new("mount")
                .args(["-o", "loop"])
                .args([&file, &mount])
                .output(),
        ];
        let failed = steps
            .iter()
            .find(|step| !step.as_ref().is_ok_and(|done| done.status.success()));
        if let Some(failed) = failed {
            println!("skipped: no file system in a file can be made here: {failed:?}");
            return None;
        }
        let disk = Self {
            mount,
            _directory: directory,
        };
        Some(Arc::new(disk))
    }

    fn freeze(&self) {
        assert!(self.run("fsfreeze", &["-f"]));
    }

    fn thaw(&self) {
        assert!(self.run("fsfreeze", &["-u"]));
    }

    fn run(&self, program: &str, options: &[&str]) -> bool {
        let mut command = Command::new(program);
        let done = command.args(options).arg(&self.mount).output();
        done.is_ok_and(|done| done.status.success())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may be frozen or not.
        self.run("fsfreeze", &["-u"]);
        self.run("umount", &["-l"]);
    }
}

/// Stops the disk when the layers are unpacked.
#[derive(Debug)]
struct FreezesAtCommit(Arc<Disk>);

impl Progress for FreezesAtCommit {
    fn report(&self, event: &ProgressEvent) {
        if *event == ProgressEvent::Committing {
            self.0.freeze();
        }
    }
}

fn image(number: u32) -> Image {
    let own = number.to_string();
    let layers = [
        (
            tar(&[("etc/number", own.as_bytes()), ("data", &noise(300_000))]),
            Packing::Gzip,
        ),
        (tar(&[("top", own.as_bytes())]), Packing::Plain),
    ];
    Image::new(&layers, "")
}

async fn registry() -> Server {
    Server::start(|request| {
        let number = request.path.contains("/app-2/").into();
        image(number).answer(request)
    })
    .await
}

fn fixture(place: &Path, host: &str) -> Fixture {
    Fixture::with(place, "overlay", &insecure(host), |settings| {
        settings.disk_timeout = LIMIT;
    })
}

/// The message of a pull that fails, with what is below it.
async fn failure(fixture: &Fixture, request: PullRequest) -> String {
    let error = fixture.puller.pull(request).await.unwrap_err();
    let (mut text, mut next) = (error.to_string(), std::error::Error::source(&*error));
    while let Some(error) = next {
        text.push_str(&format!(": {error}"));
        next = error.source();
    }
    text
}

/// Pulls until it succeeds: threads that were given up have to end first.
async fn pull_when_it_goes_on(fixture: &Fixture, name: &str) {
    loop {
        match fixture.pull(name).await {
            Ok(_) => return,
            Err(error) => assert!(
                std::error::Error::source(&*error)
                    .is_some_and(|source| source.to_string().contains("does not answer")),
                "{error:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_unpacking() {
    let Some(disk) = Disk::new() else {
        return;
    };
    let server = registry().await;
    let host = server.address.to_string();
    let fixture = fixture(&disk.mount, &host);
    let (first, second) = (format!("{host}/app-1:one"), format!("{host}/app-2:one"));
    fixture.pull(&first).await.unwrap();
    disk.freeze();
    let told = failure(&fixture, PullRequest::new(&second)).await;
    let place = disk.mount.join("root");
    let names_it = format!("the disk below `{}` does not answer", place.display());
    assert!(told.contains(&names_it), "{told}");
    assert!(told.contains("nothing got further there for 2 s"), "{told}");
    let told = failure(&fixture, PullRequest::new(&second)).await;
    assert!(
        told.contains("threads of earlier pulls still wait"),
        "{told}"
    );
    let images = fixture.images().list().unwrap();
    assert_eq!(images[0].repo_tags, [first.as_str()]);
    disk.thaw();
    pull_when_it_goes_on(&fixture, &second).await;
    assert_eq!(fixture.store.check(CheckDepth::Digests).unwrap(), []);
    for name in [&first, &second] {
        fixture.images().remove(name).unwrap();
    }
    fixture.assert_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_committing() {
    let Some(disk) = Disk::new() else {
        return;
    };
    let server = registry().await;
    let host = server.address.to_string();
    let fixture = fixture(&disk.mount, &host);
    let (first, second) = (format!("{host}/app-1:one"), format!("{host}/app-2:one"));
    fixture.pull(&first).await.unwrap();
    let mut request = PullRequest::new(&second);
    request.progress = Some(Arc::new(FreezesAtCommit(disk.clone())));
    let told = failure(&fixture, request).await;
    assert!(told.contains("does not answer"), "{told}");
    // The commit holds the locks of the store meanwhile.
    let images = fixture.images().list().unwrap();
    assert_eq!(images[0].repo_tags, [first.as_str()]);
    assert!(fixture.images().status(&first).unwrap().is_some());
    assert!(fixture.images().status(&second).unwrap().is_none());
    disk.thaw();
    pull_when_it_goes_on(&fixture, &second).await;
    // The commit went on to its end.
    for layer in &image(1).layers {
        assert_eq!(server.count(&digest(layer)), 1);
    }
    assert_eq!(fixture.store.check(CheckDepth::Digests).unwrap(), []);
}
