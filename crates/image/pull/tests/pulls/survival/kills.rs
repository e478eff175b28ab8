//! Processes killed at each step of a pull, a removal, and the making and deleting of a container. Afterwards the store is what
//! it was before or after, to the last file.

pub(crate) mod state;
mod steps;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crioxide_names::{ContainerId, ImageId};
use crioxide_pull::PullRequest;
use crioxide_store::{LayerId, NewContainer, Store, UnmountForce, Volatility};

use crate::fixture::{Fixture, insecure, is_root, open};
use crate::image::{Image, Packing, noise, tar};
use crate::server::Server;
use state::State;
use steps::{Step, sample};

/// What a child does to the store.
const ROLE: &str = "CRIOXIDE_TEST_ROLE";
const PLACE: &str = "CRIOXIDE_TEST_PLACE";
const HOST: &str = "CRIOXIDE_TEST_HOST";
const DRIVER: &str = "CRIOXIDE_TEST_DRIVER";

pub(crate) const CONTAINER: &str =
    "c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0";

#[tokio::test(flavor = "multi_thread")]
async fn a_pull() {
    each_step("overlay", "pull").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal() {
    each_step("overlay", "remove").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn making_a_container() {
    each_step("overlay", "create").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_container() {
    each_step("overlay", "delete").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_with_vfs() {
    each_step("vfs", "pull").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_with_vfs() {
    each_step("vfs", "remove").await;
}

/// The process that is killed; nothing when run as a test.
#[tokio::test(flavor = "current_thread")]
async fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let of = |name: &str| std::env::var(name).unwrap();
    let host = of(HOST);
    let place = PathBuf::from(of(PLACE));
    let fixture = Fixture::at(&place, &of(DRIVER), &insecure(&host));
    act(&fixture, &role, &host).await;
    drop(fixture);
    println!("acknowledged");
}

async fn act(fixture: &Fixture, role: &str, host: &str) {
    let name = format!("{host}/app:one");
    match role {
        "pull" => {
            let pulled = fixture.puller.pull(PullRequest::new(&name)).await;
            drop(pulled.unwrap());
        }
        "remove" => drop(fixture.images().remove(&name).unwrap()),
        "create" => create(&fixture.store, &name),
        "delete" => fixture.store.delete_container(CONTAINER).unwrap(),
        other => panic!("{other} is no role"),
    }
}

pub(crate) fn create(store: &Store, name: &str) {
    create_as(store, name, CONTAINER);
}

fn create_as(store: &Store, name: &str, id: &str) {
    let image = store.image(name).unwrap().unwrap();
    let new = NewContainer {
        id: ContainerId::parse(id).unwrap(),
        names: vec![format!("container-{}", &id[..2])],
        image: image.id.clone(),
        parent_layer: Some(LayerId::parse(&image.layer).unwrap()),
        metadata: "{}".to_owned(),
        process_label: String::new(),
        mount_label: String::new(),
        mount_options: Vec::new(),
        uid_map: Vec::new(),
        gid_map: Vec::new(),
        volatility: Volatility::Volatile,
    };
    store.create_container(new).unwrap();
}

/// What comes before each role, from a store that holds the image `kept`.
fn before(role: &str) -> &'static [&'static str] {
    match role {
        "remove" | "create" => &["pull"],
        "delete" => &["pull", "create"],
        _ => &[],
    }
}

/// Of the process beside.
const OTHER: &str = "d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0";

async fn each_step(driver: &str, role: &str) {
    if !is_root() || !steps::possible() {
        return;
    }
    let scene = Scene::new(driver).await;
    for role in before(role) {
        scene.child(role, None);
    }
    let first = scene.state();
    let template = scene.copy("before");
    let steps = scene.steps(role);
    let last = scene.state();
    assert_ne!(first.files, last.files);
    let (mut killed, mut unchanged) = (0, 0);
    let chosen = sample(&steps);
    for step in &chosen {
        scene.put_back(&template);
        let run = scene.child(role, Some(step));
        killed += usize::from(run.killed);
        let found = scene.state();
        let acknowledged = run.acknowledged || !run.killed;
        assert!(
            found.files == last.files || (found.files == first.files && !acknowledged),
            "killed at {step:?} ({run:?}):\n{}",
            found.difference(if found.is_closer_to(&last) {
                &last
            } else {
                &first
            })
        );
        unchanged += usize::from(found.files == first.files);
        // The next one finds what it needs, whatever the last one left.
        if found.files == first.files {
            scene.child(role, None);
        }
        assert_eq!(scene.state().files, last.files, "again, after {step:?}");
    }
    println!(
        "{role} with {driver}: {} of {} steps, {killed} times killed, {unchanged} times before it was done",
        chosen.len(),
        steps.len()
    );
    assert!(killed > 0);
}

/// Kills, while another program works on the store.
#[tokio::test(flavor = "multi_thread")]
async fn beside_buildah() {
    if program("buildah") {
        beside(Scene::buildah_container).await;
    }
}

/// Kills, while another process of ours works on the store and reads what is in it.
#[tokio::test(flavor = "multi_thread")]
async fn beside_another_of_ours() {
    beside(Scene::own_container).await;
}

/// Each way a process can change the store is killed at some steps and done then, while `other` goes on all the time.
async fn beside(other: fn(&Scene)) {
    if !is_root() || !steps::possible() {
        return;
    }
    let scene = Scene::new("overlay").await;
    let template = scene.copy("before");
    let roles = ["pull", "create", "delete", "remove"];
    let steps = roles.map(|role| (role, scene.steps(role)));
    scene.put_back(&template);
    // What it leaves in any store is there before.
    other(&scene);
    let first = scene.state();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let theirs = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                other(&scene);
                rounds += 1;
            }
            rounds
        });
        let samples = steps.map(|(role, steps)| (role, sample(&steps)));
        let rounds = samples.iter().map(|(_, steps)| steps.len()).max();
        for round in 0..rounds.unwrap_or_default() {
            for (role, steps) in &samples {
                scene.child(role, Some(&steps[round % steps.len()]));
                // Fails where the killed one had come to its end.
                scene.child(role, None);
            }
        }
        done.store(true, Ordering::Relaxed);
        println!("{} rounds of the other meanwhile", theirs.join().unwrap());
    });
    assert_eq!(scene.state().difference(&first), "");
}

/// A store that holds one image, and a registry with that and another one.
struct Scene {
    server: Server,
    directory: tempfile::TempDir,
    driver: String,
}

impl Scene {
    async fn new(driver: &str) -> Self {
        let (kept, app) = images();
        let server = Server::start(move |request| match request.path.contains("/kept/") {
            true => kept.answer(request),
            false => app.answer(request),
        })
        .await;
        let scene = Self {
            server,
            directory: tempfile::tempdir_in("/var/tmp").unwrap(),
            driver: driver.to_owned(),
        };
        std::fs::create_dir(scene.place()).unwrap();
        let fixture = Fixture::at(&scene.place(), driver, &insecure(&scene.host()));
        fixture.pull(&scene.kept()).await.unwrap();
        // All files and directories that any store has are there from now on.
        create(&fixture.store, &scene.kept());
        fixture.store.delete_container(CONTAINER).unwrap();
        scene
    }

    fn host(&self) -> String {
        self.server.address.to_string()
    }

    fn kept(&self) -> String {
        format!("{}/kept:one", self.host())
    }

    fn place(&self) -> PathBuf {
        self.directory.path().join("place")
    }

    fn copy(&self, name: &str) -> PathBuf {
        let to = self.directory.path().join(name);
        copy(&self.place(), &to);
        to
    }

    fn put_back(&self, template: &Path) {
        std::fs::remove_dir_all(self.place()).unwrap();
        copy(template, &self.place());
    }

    fn command(&self, role: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "survival::kills::child", "--nocapture"])
            .env(ROLE, role)
            .env(PLACE, self.place())
            .env(HOST, self.host())
            .env(DRIVER, &self.driver);
        command
    }

    /// Does something in a child, which is killed if a step is given.
    fn child(&self, role: &str, kill: Option<&Step>) -> steps::Run {
        let run = steps::run(self.command(role), kill);
        assert!(run.killed || run.acknowledged, "{role}: {run:?}");
        run
    }

    /// Every step of a role, which is done thereby.
    fn steps(&self, role: &str) -> Vec<Step> {
        steps::all(self.command(role), &self.place())
    }

    /// What the next start makes of the store.
    fn state(&self) -> State {
        let (kept, app) = images();
        State::of(&self.place(), &self.driver, &[&kept], &[&app])
    }

    fn buildah_container(&self) {
        self.buildah(&["from", "--name", "theirs", &self.kept()]);
        self.buildah(&["mount", "theirs"]);
        self.buildah(&["rm", "theirs"]);
    }

    /// A container of another process, made and deleted, and the kept image as it was.
    fn own_container(&self) {
        let store = open(&self.place(), &self.driver);
        let (kept, _) = images();
        state::compare(&store, &kept, &mut BTreeSet::new());
        create_as(&store, &self.kept(), OTHER);
        let made = store.container(OTHER).unwrap().unwrap();
        let layer = LayerId::parse(&made.layer).unwrap();
        let mounted = store.mount(&layer, &Default::default()).unwrap();
        assert!(mounted.join("kept").exists());
        store.delete_container(OTHER).unwrap();
        // Its mount of the driver's home would stay.
        store.shut_down(UnmountForce::One).unwrap();
    }

    fn buildah(&self, arguments: &[&str]) {
        let output = Command::new("buildah")
            .arg("--root")
            .arg(self.place().join("root"))
            .arg("--runroot")
            .arg(self.place().join("run"))
            .args(["--storage-driver", &self.driver])
            .args(arguments)
            .env("TMPDIR", self.directory.path())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "buildah {arguments:?}: {errors}");
    }
}

/// Two images that share their lowest layer. The other layers of the second are of all kinds.
fn images() -> (Image, Image) {
    let shared = tar(&[("etc/hostname", b"shared"), ("data", &noise(100_000))]);
    let upper = tar(&[("etc/.wh.hostname", b""), ("var/log/file", &noise(5000))]);
    let top = tar(&[("top", b"top"), ("etc/.wh..wh..opq", b"")]);
    let kept = [
        (shared.clone(), Packing::Gzip),
        (tar(&[("kept", b"1")]), Packing::Gzip),
    ];
    let app = [
        (shared, Packing::Gzip),
        (upper, Packing::Zstd),
        (top, Packing::Plain),
    ];
    (Image::new(&kept, ""), Image::new(&app, ""))
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

fn program(name: &str) -> bool {
    let there = Command::new(name).arg("--version").output().is_ok();
    if !there {
        println!("skipped: {name} is not installed");
    }
    there
}

/// The id of an image made here.
fn id(image: &Image) -> ImageId {
    ImageId::parse(&image.id()).unwrap()
}
