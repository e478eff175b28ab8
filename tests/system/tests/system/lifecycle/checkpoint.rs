//! Checkpoints of containers. Where criu does not work, as with kernels newer than it, this is for the VM tier.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::{
    NodeOptions, TestNode, requirements, skip_unless, waiting::eventually,
};
use tonic::{Code, Status};

use crate::scene::{Scene, possible, refused};
use crate::security::output;
use crate::smoke::crun_works_here;

pub(super) const FAILED: &[Code] = &[Code::Unknown];

pub(super) fn criu_works_here() -> Result<(), String> {
    requirements::program("criu")?;
    let checked = Command::new("criu").arg("check").output();
    let checked = checked.map_err(|error| format!("criu: {error}"))?;
    match checked.status.success() {
        true => Ok(()),
        false => Err("criu check says that it does not work with this kernel".to_owned()),
    }
}

pub(super) async fn checkpoint(node: &TestNode, id: &str, location: &Path) -> Result<(), Status> {
    let request = v1::CheckpointContainerRequest {
        container_id: id.to_owned(),
        location: location.display().to_string(),
        timeout: 0,
    };
    let mut runtime = node.client.runtime.clone();
    runtime.checkpoint_container(request).await.map(drop)
}

/// What `tar` prints.
pub(super) fn tar(args: &[&str]) -> Result<String> {
    let done = Command::new("tar").args(args).output().context("tar")?;
    let errors = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "tar {args:?}: {errors}");
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn not_available_where_it_is_turned_off() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start_with(NodeOptions {
        more_tables: "[crio.checkpoint_restore]\ncontainer_level_enabled = \"none\"\n".to_owned(),
        ..Default::default()
    })
    .await?;
    let answer = checkpoint(&scene.node, "ffff", Path::new("/nowhere/c.tar")).await;
    refused(
        answer,
        FAILED,
        &["checkpoint/restore support not available"],
    )?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn builtin_writes_a_running_container() -> Result<()> {
    skip_unless!(possible(), criu_works_here());
    is_written_and_runs_on("builtin").await
}

#[tokio::test(flavor = "multi_thread")]
async fn runc_writes_a_running_container() -> Result<()> {
    skip_unless!(possible(), criu_works_here(), requirements::program("runc"));
    is_written_and_runs_on("runc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn crun_writes_a_running_container() -> Result<()> {
    skip_unless!(
        possible(),
        criu_works_here(),
        requirements::program("crun"),
        crun_works_here()
    );
    is_written_and_runs_on("crun").await
}

async fn is_written_and_runs_on(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let place = tempfile::tempdir()?;
    let (volume, archive) = (place.path().join("volume"), place.path().join("c.tar"));
    std::fs::create_dir(&volume)?;
    let script = "echo started; echo changed > /new; echo v > /volume/file; rm /etc/group; \
        i=0; while true; do i=$((i+1)); echo $i > /count; sleep 0.1; done";
    let mut container = node.container("main", &scene.image, &["sh", "-c", script]);
    container.mounts.push(v1::Mount {
        container_path: "/volume".to_owned(),
        host_path: volume.display().to_string(),
        ..Default::default()
    });
    let (_, id) = node.run(&node.pod("written"), &container, handler).await?;
    eventually("the container counts", async || {
        output(node, &id, "test -s /count").await.map(drop)
    })
    .await?;

    // A failure at the very end first: nothing may be different afterwards.
    let nowhere = place.path().join("no/such/place.tar");
    let answer = checkpoint(node, &id, &nowhere).await;
    refused(
        answer,
        FAILED,
        &["failed to checkpoint container", "no/such/place.tar"],
    )?;
    // What runs in the container beside its own processes, as probes do, is neither in the way nor harmed.
    let client = node.client.clone();
    let probed = id.clone();
    let probe = tokio::spawn(async move {
        let script = "touch /probing; until test -e /probed; do sleep 0.1; done; echo done";
        client.exec(&probed, &["sh", "-c", script], 300).await
    });
    eventually("the probe runs", async || {
        output(node, &id, "test -e /probing").await.map(drop)
    })
    .await?;
    checkpoint(node, &id, &archive).await?;
    output(node, &id, "touch /probed").await?;
    let probed = probe.await??;
    ensure!(probed.stdout == b"done\n", "{probed:?}");

    let count = || async { output(node, &id, "cat /count").await };
    let before = count().await?;
    eventually("the container counts on", async || {
        ensure!(count().await? != before);
        Ok(())
    })
    .await?;
    holds_what_belongs_there(&archive, place.path(), &id, handler)?;
    node.client.stop(&id, 0).await?;
    let answer = checkpoint(node, &id, &archive).await;
    refused(answer, FAILED, &["is not running"])?;
    let left: Vec<_> = std::fs::read_dir(place.path())?.flatten().collect();
    ensure!(left.len() == 3, "{left:?}");
    scene.node.finish().await
}

/// Unpacks the archive into `place` and looks at its members.
fn holds_what_belongs_there(archive: &Path, place: &Path, id: &str, handler: &str) -> Result<()> {
    let listed = tar(&["-tf", &archive.display().to_string()])?;
    let members: Vec<&str> = listed.lines().collect();
    for wanted in [
        "checkpoint/",
        "checkpoint/inventory.img",
        "checkpoint/descriptors.json",
        "config.dump",
        "spec.dump",
        "bind.mounts",
        "rootfs-diff.tar",
        "deleted.files",
        "dump.log",
        "io.kubernetes.cri-o.LogPath",
    ] {
        ensure!(members.contains(&wanted), "{wanted} is not in {members:?}");
    }
    let unpacked = place.join("unpacked");
    std::fs::create_dir(&unpacked)?;
    let directory = unpacked.display().to_string();
    tar(&["-xf", &archive.display().to_string(), "-C", &directory])?;
    let document = |name: &str| -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&std::fs::read(
            unpacked.join(name),
        )?)?)
    };
    let config = document("config.dump")?;
    ensure!(
        config["id"] == id && config["runtime"] == handler,
        "{config}"
    );
    ensure!(document("deleted.files")? == serde_json::json!(["/etc/group"]));
    let binds = document("bind.mounts")?;
    let binds = binds.as_array().context("an array")?;
    ensure!(
        binds
            .iter()
            .any(|bind| bind["destination"] == "/volume" && bind["file_type"] == "directory"),
        "{binds:?}"
    );
    let changed = tar(&[
        "-tf",
        &unpacked.join("rootfs-diff.tar").display().to_string(),
    ])?;
    ensure!(
        changed.lines().any(|line| line == "new") && !changed.contains("resolv.conf"),
        "{changed}"
    );
    let log = std::fs::read_to_string(unpacked.join("io.kubernetes.cri-o.LogPath"))?;
    ensure!(log.contains("stdout F started"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_named_and_runs_on() -> Result<()> {
    skip_unless!(possible(), criu_works_here());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let place = tempfile::tempdir()?;
    let script = "(nc -l -p 7000 -e cat &) ; sleep 1; sleep 600 | nc 127.0.0.1 7000";
    let container = node.container("main", &scene.image, &["sh", "-c", script]);
    let (_, id) = node.run(&node.pod("connected"), &container, "").await?;
    eventually("there is a connection", async || {
        output(node, &id, "grep -q ' 01 ' /proc/net/tcp")
            .await
            .map(drop)
    })
    .await?;
    let answer = checkpoint(node, &id, &place.path().join("c.tar")).await;
    refused(
        answer,
        FAILED,
        &["failed to checkpoint container", "tcp-established"],
    )?;
    ensure!(std::fs::read_dir(place.path())?.next().is_none());
    output(node, &id, "grep -q ' 01 ' /proc/net/tcp").await?;

    let mut container = node.container("terminal", &scene.image, &["sleep", "600"]);
    container.tty = true;
    let (_, id) = node
        .run(&node.pod("terminal"), &container, "builtin")
        .await?;
    let answer = checkpoint(node, &id, &place.path().join("c.tar")).await;
    refused(answer, FAILED, &["a terminal"])?;
    output(node, &id, "true").await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn runc_restores_what_builtin_wrote() -> Result<()> {
    skip_unless!(possible(), criu_works_here(), requirements::program("runc"));
    let scene = Scene::start().await?;
    let node = &scene.node;
    let place = tempfile::tempdir()?;
    let script = "i=0; while true; do i=$((i+1)); echo $i > /count; sleep 0.1; done";
    let container = node.container("main", &scene.image, &["sh", "-c", script]);
    let (_, id) = node
        .run(&node.pod("restored"), &container, "builtin")
        .await?;
    eventually("the container counts", async || {
        output(node, &id, "test -s /count").await.map(drop)
    })
    .await?;
    let archive = place.path().join("c.tar");
    checkpoint(node, &id, &archive).await?;
    node.client.stop(&id, 0).await?;

    // Into the same pod, on the root that the container left.
    let bundle = place.path().join("bundle");
    std::fs::create_dir(&bundle)?;
    let directory = bundle.display().to_string();
    tar(&["-xf", &archive.display().to_string(), "-C", &directory])?;
    std::fs::rename(bundle.join("spec.dump"), bundle.join("config.json"))?;
    let spec: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bundle.join("config.json"))?)?;
    let root = spec["root"]["path"].as_str().context("a root")?;
    let count = std::path::Path::new(root).join("count");
    let counted = || -> Result<u64> { Ok(std::fs::read_to_string(&count)?.trim().parse()?) };
    let before = counted()?;
    let runc = |args: &[&str]| -> Result<()> {
        let mut command = Command::new("runc");
        command
            .arg("--root")
            .arg(place.path().join("runc"))
            .args(
                spec["linux"]["cgroupsPath"]
                    .as_str()
                    .filter(|path| path.contains(':'))
                    .map(|_| "--systemd-cgroup"),
            )
            .args(args)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null());
        let log = std::fs::File::create(place.path().join("runc.log"))?;
        let status = command.stderr(log).status()?;
        let said = std::fs::read_to_string(place.path().join("runc.log"))?;
        let restored = std::fs::read_to_string(bundle.join("restore.log")).unwrap_or_default();
        let errors = restored.lines().filter(|line| line.contains("Error"));
        let errors: Vec<&str> = errors.collect();
        ensure!(status.success(), "runc {args:?}: {said} {errors:?}");
        Ok(())
    };
    let images = bundle.join("checkpoint").display().to_string();
    runc(&[
        "restore",
        "--detach",
        "--file-locks",
        "--bundle",
        &directory,
        "--image-path",
        &images,
        "--work-path",
        &directory,
        "restored",
    ])?;
    let goes_on = eventually("the restored container counts on", async || {
        let now = counted()?;
        ensure!(now > before, "{now} after {before}");
        Ok(())
    })
    .await;
    runc(&["delete", "--force", "restored"])?;
    goes_on?;
    scene.node.finish().await
}
