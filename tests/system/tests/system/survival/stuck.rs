//! What stands still holds up its own container and nobody else, and is stopped all the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::waiting::{LIMIT, eventually, scaled};
use crioxide_test_support::{TestNode, requirements, skip_unless};
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;

use super::restart::{container_pid, parent_of};
use crate::scene::{Scene, possible, refused};

const HANDLERS: [&str; 3] = ["builtin", "runc", "conmon"];

fn available(handler: &str) -> bool {
    let has = |program| requirements::program(program).is_ok();
    match handler {
        "builtin" => true,
        "conmon" => has("runc") && has("conmon"),
        program => has(program),
    }
}

/// A pod that is used while another one stands still.
async fn bystander(scene: &Scene, handler: &str) -> Result<String> {
    let node = &scene.node;
    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let name = format!("beside-{handler}");
    Ok(node.run(&node.pod(&name), &container, handler).await?.1)
}

async fn is_usable(node: &TestNode, id: &str) -> Result<()> {
    let used = async {
        let done = node.client.exec(id, &["echo", "fine"], 30).await?;
        ensure!(done.stdout == b"fine\n", "{done:?}");
        node.client.list_containers().await?;
        node.client.container_stats(id).await?;
        anyhow::Ok(())
    };
    let used = tokio::time::timeout(scaled(LIMIT), used).await;
    used.context("others are held up")?
}

/// Stops and removes a container in bounded time, and says how it ended.
async fn ends(node: &TestNode, id: &str) -> Result<v1::ContainerStatus> {
    let ended = async {
        node.client.stop(id, 0).await.context("stop")?;
        let status = node.exited(id).await?;
        node.client.remove(id).await.context("remove")?;
        anyhow::Ok(status)
    };
    let ended = tokio::time::timeout(scaled(LIMIT), ended).await;
    ended.context("the stop does not end")?
}

/// Somebody froze it past us.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_container() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    for handler in HANDLERS.into_iter().filter(|handler| available(handler)) {
        let container = node.container("main", &scene.image, &["sleep", "600"]);
        let (_, frozen) = node.run(&node.pod(handler), &container, handler).await?;
        let beside = bystander(&scene, handler).await?;
        freeze(container_pid(node, &frozen).await?)?;
        let probe = node.client.exec(&frozen, &["true"], 1).await;
        refused(probe, &[Code::Unknown, Code::DeadlineExceeded], &[])?;
        is_usable(node, &beside).await?;
        let status = ends(node, &frozen).await.context(handler)?;
        ensure!(status.exit_code == 137, "{handler}: {status:?}");
    }
    scene.node.finish().await
}

pub(super) fn freeze(pid: i32) -> Result<()> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let of = |root: &str, middle: &str| {
        let path = groups.lines().find_map(|line| line.split_once(middle))?.1;
        Some(Path::new(root).join(path.trim_start_matches('/')))
    };
    let (file, value) = match of("/sys/fs/cgroup/freezer", ":freezer:") {
        Some(group) => (group.join("freezer.state"), "FROZEN"),
        None => {
            let group = of("/sys/fs/cgroup", "0::").context("a cgroup")?;
            (group.join("cgroup.freeze"), "1")
        }
    };
    std::fs::write(&file, value).with_context(|| format!("write `{}`", file.display()))
}

/// Continues a process on drop.
struct Stopped(Pid);

impl Stopped {
    fn process(pid: i32) -> Result<Self> {
        let pid = Pid::from_raw(pid).context("a process")?;
        kill_process(pid, Signal::STOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// The kernel, not the monitor, tells of the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_monitor() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    // runc's is the built-in runtime's.
    let watched = HANDLERS.into_iter().filter(|handler| *handler != "runc");
    for handler in watched.filter(|handler| available(handler)) {
        let container = node.container("main", &scene.image, &["sleep", "600"]);
        let (_, id) = node.run(&node.pod(handler), &container, handler).await?;
        let beside = bystander(&scene, handler).await?;
        let monitor = Stopped::process(parent_of(container_pid(node, &id).await?)?)?;
        if handler != "conmon" {
            let probe = node.client.exec(&id, &["true"], 1).await;
            refused(probe, &[Code::DeadlineExceeded], &["timed out"])?;
        }
        is_usable(node, &beside).await?;
        let stopped = tokio::time::timeout(scaled(LIMIT), node.client.stop(&id, 0)).await;
        stopped.context("the stop does not end")??;
        let status = node.exited(&id).await?;
        ensure!(status.exit_code == 137, "{handler}: {status:?}");
        drop(monitor);
        node.client.remove(&id).await.context(handler)?;
    }
    scene.node.finish().await
}

/// A file system that can be frozen, on a file.
struct Disk {
    mounted: PathBuf,
}

impl Disk {
    fn make(directory: &Path) -> Result<Self> {
        let (file, mounted) = (directory.join("disk"), directory.join("mounted"));
        std::fs::File::create(&file)?.set_len(16 << 20)?;
        std::fs::create_dir(&mounted)?;
        run(Command::new("mkfs.ext4").arg("-q").arg(&file))?;
        run(Command::new("mount")
            .args(["-o", "loop"])
            .args([&file, &mounted]))?;
        Ok(Self { mounted })
    }

    fn freeze(&self, option: &str) -> Result<()> {
        run(Command::new("fsfreeze").arg(option).arg(&self.mounted))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.freeze("--unfreeze");
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.mounted));
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

fn disks() -> Result<(), String> {
    for program in ["mkfs.ext4", "fsfreeze"] {
        requirements::program(program)?;
    }
    match Path::new("/dev/loop-control").exists() {
        true => Ok(()),
        false => Err("needs loop devices".to_owned()),
    }
}

/// Not even the kernel can kill it: others go on, and the stop ends as soon as it can.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_waits_for_a_disk() -> Result<()> {
    skip_unless!(possible(), disks());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let directory = tempfile::tempdir()?;
    let disk = Disk::make(directory.path())?;
    let mut container = node.container(
        "main",
        &scene.image,
        &[
            "sh",
            "-c",
            "until [ -e /go ]; do sleep 0.05; done; echo >/disk/file; sleep 600",
        ],
    );
    container.mounts.push(v1::Mount {
        container_path: "/disk".to_owned(),
        host_path: disk.mounted.display().to_string(),
        ..Default::default()
    });
    let (_, id) = node.run(&node.pod("waits"), &container, "").await?;
    let beside = bystander(&scene, "builtin").await?;
    let pid = container_pid(node, &id).await?;
    disk.freeze("--freeze")?;
    std::fs::write(format!("/proc/{pid}/root/go"), "")?;
    eventually("the process waits", async || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        ensure!(stat.contains(") D "), "{stat}");
        Ok(())
    })
    .await?;
    let client = node.client.clone();
    let stopped = id.clone();
    let stop = tokio::spawn(async move { client.stop(&stopped, 0).await });
    is_usable(node, &beside).await?;
    let status = node.client.container_status(&id).await?;
    ensure!(
        status.state() == v1::ContainerState::ContainerRunning,
        "it is not gone: {status:?}"
    );
    ensure!(!stop.is_finished(), "{:?}", stop.await);
    disk.freeze("--unfreeze")?;
    stop.await??;
    ensure!(node.exited(&id).await?.exit_code == 137);
    node.remove_pods().await?;
    drop(disk);
    scene.node.finish().await
}
