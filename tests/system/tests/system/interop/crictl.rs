//! The main job by `crictl`, as people do it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{TestNode, requirements, skip_unless};
use serde_json::json;
use tokio::process::Command;

use crate::scene::{Scene, possible};

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_from_pull_to_removal() -> Result<()> {
    skip_unless!(possible(), requirements::crictl());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let folder = tempfile::tempdir()?;
    let pod_file = folder.path().join("pod.json");
    let container_file = folder.path().join("container.json");
    let logs = node.place().logs().join("crictl");
    write(
        &pod_file,
        &json!({
            "metadata": {"name": "by-crictl", "namespace": "default", "uid": "u1", "attempt": 1},
            "log_directory": logs,
            "linux": {"cgroup_parent": node.place().cgroup_parent()},
        }),
    )?;
    write(
        &container_file,
        &json!({
            "metadata": {"name": "main"},
            "image": {"image": scene.image},
            "command": ["sh", "-c", "echo it runs; sleep 600"],
            "log_path": "main.log",
        }),
    )?;
    let (pod_file, container_file) = (
        pod_file.display().to_string(),
        container_file.display().to_string(),
    );

    scene.node.client.remove_image(&scene.image).await?;
    let said = crictl(node, &["pull", &scene.image]).await?;
    ensure!(said.contains("Image is up to date"), "{said}");
    ensure!(crictl(node, &["images"]).await?.contains("test/busybox"));
    let pod = crictl(node, &["runp", &pod_file]).await?.trim().to_owned();
    ensure!(crictl(node, &["pods"]).await?.contains("by-crictl"));
    let container = crictl(node, &["create", &pod, &container_file, &pod_file])
        .await?
        .trim()
        .to_owned();
    crictl(node, &["start", &container]).await?;
    ensure!(crictl(node, &["ps"]).await?.contains("Running"));
    eventually("crictl shows the log", async || {
        let said = crictl(node, &["logs", &container]).await?;
        ensure!(said == "it runs\n", "{said}");
        Ok(())
    })
    .await?;
    // It ends the command's output and its (empty) error output with a line feed of its own.
    ensure!(crictl(node, &["exec", "--sync", &container, "echo", "hello"]).await? == "hello\n\n\n");
    let inspected: serde_json::Value =
        serde_json::from_str(&crictl(node, &["inspect", &container]).await?)?;
    ensure!(
        inspected["status"]["state"] == "CONTAINER_RUNNING",
        "{inspected}"
    );
    let inspected: serde_json::Value =
        serde_json::from_str(&crictl(node, &["inspectp", &pod]).await?)?;
    ensure!(
        inspected["status"]["state"] == "SANDBOX_READY",
        "{inspected}"
    );
    ensure!(
        crictl(node, &["stats", "-o", "json"])
            .await?
            .contains(&container)
    );
    let info: serde_json::Value = serde_json::from_str(&crictl(node, &["info"]).await?)?;
    let conditions = info["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for kind in ["RuntimeReady", "NetworkReady"] {
        ensure!(
            conditions
                .iter()
                .any(|condition| condition["type"] == kind && condition["status"] == true),
            "{info}"
        );
    }
    crictl(node, &["stop", "--timeout", "0", &container]).await?;
    ensure!(crictl(node, &["ps", "-a"]).await?.contains("Exited"));
    crictl(node, &["rm", &container]).await?;
    crictl(node, &["stopp", &pod]).await?;
    crictl(node, &["rmp", &pod]).await?;
    crictl(node, &["rmi", &scene.image]).await?;
    ensure!(!crictl(node, &["images"]).await?.contains("test/busybox"));
    scene.node.finish().await
}

async fn crictl(node: &TestNode, arguments: &[&str]) -> Result<String> {
    let program = requirements::crictl().map_err(anyhow::Error::msg)?;
    let endpoint = format!("unix://{}", node.place().socket().display());
    let done = Command::new(program)
        .args([
            "--runtime-endpoint",
            &endpoint,
            "--image-endpoint",
            &endpoint,
            "--timeout",
            "60s",
        ])
        .args(arguments)
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("start crictl {arguments:?}"))?;
    let errors = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "crictl {arguments:?}: {errors}");
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn write(path: &Path, value: &serde_json::Value) -> Result<()> {
    std::fs::write(path, value.to_string()).with_context(|| format!("write `{}`", path.display()))
}
