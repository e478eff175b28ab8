//! The main job in its shortest form, once per handler: this also runs in the VM tier, on every kind of host.

use anyhow::{Result, ensure};
use crioxide_test_support::{requirements, skip_unless};

use crate::scene::{Scene, possible};

#[tokio::test(flavor = "multi_thread")]
async fn builtin() -> Result<()> {
    skip_unless!(possible());
    pod_from_start_to_end("builtin").await
}

#[tokio::test(flavor = "multi_thread")]
async fn runc() -> Result<()> {
    skip_unless!(possible(), requirements::program("runc"));
    pod_from_start_to_end("runc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn crun() -> Result<()> {
    skip_unless!(possible(), requirements::program("crun"), crun_works_here());
    pod_from_start_to_end("crun").await
}

#[tokio::test(flavor = "multi_thread")]
async fn shim() -> Result<()> {
    skip_unless!(possible(), requirements::shim());
    pod_from_start_to_end("shim").await
}

/// crun refuses hosts where a controller is in a version 1 hierarchy and others in a mounted version 2 one.
pub(crate) fn crun_works_here() -> Result<(), String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let v1 = mounts.contains(" - cgroup ");
    let unified =
        std::fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers").unwrap_or_default();
    if v1 && !unified.trim().is_empty() {
        return Err("crun refuses a host with controllers in cgroup v1 and v2 at once".to_owned());
    }
    Ok(())
}

pub(crate) async fn pod_from_start_to_end(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let node = &scene.node;
    let pod = node.pod("smoke");
    let script =
        "echo started; echo problem >&2; trap 'exit 7' TERM; while :; do sleep 1 & wait $!; done";
    let container = node.container("main", &scene.image, &["sh", "-c", script]);
    let (pod_id, id) = node.run(&pod, &container, handler).await?;

    let said = crioxide_test_support::waiting::eventually("the log has both lines", async || {
        let log = node.container_log(&pod, "main")?;
        ensure!(log.len() == 2, "only {log:?}");
        Ok(log)
    })
    .await?;
    ensure!(
        said["stdout"] == "started\n" && said["stderr"] == "problem\n",
        "log: {said:?}"
    );

    let done = node
        .client
        .exec(&id, &["sh", "-c", "echo $((6*7)); echo no >&2; exit 3"], 30)
        .await?;
    ensure!(
        done.exit_code == 3 && done.stdout == b"42\n" && done.stderr == b"no\n",
        "exec: {done:?}"
    );

    let status = node.client.pod_status(&pod_id).await?;
    let ip = status.network.map(|network| network.ip).unwrap_or_default();
    ensure!(ip.starts_with("10."), "the pod has the address `{ip}`");
    let seen = node
        .client
        .exec(&id, &["ip", "-4", "-o", "addr", "show", "eth0"], 30)
        .await?;
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    ensure!(
        seen.contains(&format!("{ip}/")),
        "the container sees `{seen}`, not {ip}"
    );

    node.client.stop(&id, 30).await?;
    let ended = node.exited(&id).await?;
    ensure!(ended.exit_code == 7, "its trap ends it with 7: {ended:?}");
    scene.node.finish().await
}
