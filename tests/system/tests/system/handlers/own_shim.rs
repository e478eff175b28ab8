//! A shim of our own, which knows version 3, counts as a guest does, and misbehaves when it is told to.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use crioxide_cri_api::v1;
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{NodeOptions, skip_unless};
use tonic::Code;

use crate::handlers::shim::process_with;
use crate::scene::{Scene, possible, refused};

const HANDLER: &str = "own";
const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-crioxidetest-v2");

fn shim_possible() -> Result<(), String> {
    possible()?;
    match Path::new(SHIM).exists() && !Path::new("/run/systemd/system").exists() {
        true => Ok(()),
        false => Err("needs the shim of the tests, and cgroupfs".to_owned()),
    }
}

/// A node with the shim as a handler. Keys go into the handler's table.
async fn start(keys: &str) -> Result<Scene> {
    let table = format!(
        "[crio.runtime.runtimes.{HANDLER}]\nruntime_type = \"vm\"\nruntime_path = \"{SHIM}\"\n\
         monitor_cgroup = \"pod\"\n{keys}\n"
    );
    let options = NodeOptions {
        more_tables: table,
        ..NodeOptions::default()
    };
    Scene::start_with(options).await
}

/// A file in a container's bundle.
fn in_bundle(scene: &Scene, id: &str, name: &str) -> Result<String> {
    let path = scene.node.place().base().join("attach").join(id).join(name);
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_version_3_runs_pods() -> Result<()> {
    skip_unless!(shim_possible());
    let configuration = tempfile::NamedTempFile::new()?;
    let path = configuration.path().display();
    let mut scene = start(&format!("runtime_config_path = \"{path}\"\n")).await?;
    let node = &mut scene.node;
    let pod = node.pod("guest");
    let script = "echo here; echo there >&2; while [ ! -e /end ]; do sleep 0.05; done; exit 6";
    let container = node.container("main", &scene.image, &["sh", "-c", script]);
    let (pod_id, id) = node.run(&pod, &container, HANDLER).await?;
    let mut typed = node.container("typed", &scene.image, &["cat"]);
    (typed.stdin, typed.stdin_once) = (true, true);
    let typed = node.client.create(&pod_id, &typed, &pod).await?;
    node.client.start(&typed).await?;
    eventually("its output is logged", async || {
        let log = node.container_log(&pod, "main")?;
        let said = |stream: &str| log.get(stream).cloned().unwrap_or_default();
        ensure!(
            said("stdout") == "here\n" && said("stderr") == "there\n",
            "{log:?}"
        );
        Ok(())
    })
    .await?;
    ensure!(
        in_bundle(&scene, &id, "shim-request")? == format!("runtimeoptions.v1.Options {path}\n")
    );
    // What the guest says, not what the host counts.
    let node = &mut scene.node;
    let stats = node.client.container_stats(&id).await?.context("figures")?;
    let number = |value: Option<v1::UInt64Value>| value.map_or(0, |value| value.value);
    let cpu = number(stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds));
    let memory = stats.memory.context("memory")?;
    ensure!(cpu == 123_000_000_000, "{cpu}");
    ensure!(number(memory.usage_bytes) == 77 << 20 && number(memory.working_set_bytes) == 70 << 20);
    ensure!(node.log().contains("serving on behalf of a test"));

    node.kill().await?;
    node.start_again().await?;
    let done = node.client.exec(
        &id,
        &["sh", "-c", "echo out; echo err >&2; touch /end; exit 3"],
        30,
    );
    let done = done.await?;
    ensure!(
        done.exit_code == 3 && done.stdout == b"out\n" && done.stderr == b"err\n",
        "{done:?}"
    );
    ensure!(node.exited(&id).await?.exit_code == 6);
    // The end of what is typed is told to the shim, which holds the FIFO open itself.
    let session =
        crate::streaming::attach::greet(node, &typed, crate::streaming::NEWEST[0]).await?;
    let mut session = session;
    session.writer.end().await?;
    ensure!(node.exited(&typed).await?.exit_code == 0);
    let output = node.container_log(&pod, "typed")?;
    ensure!(output["stdout"].starts_with("hello\n"), "{output:?}");
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn is_told_to_pull_the_image_itself() -> Result<()> {
    skip_unless!(shim_possible());
    let scene = start("runtime_pull_image = true").await?;
    let node = &scene.node;
    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let (_, id) = node.run(&node.pod("pulls"), &container, HANDLER).await?;
    let request = in_bundle(&scene, &id, "shim-request")?;
    let option = request.lines().nth(1).context("a mount")?;
    let option = option.strip_prefix("fuse.nydus-overlayfs io.katacontainers.volume=");
    let volume =
        base64::engine::general_purpose::STANDARD.decode(option.context("kata's option")?)?;
    let volume: serde_json::Value = serde_json::from_slice(&volume)?;
    ensure!(volume["volume_type"] == "image_guest_pull", "{volume}");
    ensure!(volume["source"] == scene.image.as_str(), "{volume}");
    let metadata = &volume["image_pull"]["metadata"];
    ensure!(
        metadata["io.kubernetes.cri-o.ContainerType"] == "container",
        "{metadata}"
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_nodes_devices_from_privileged_containers() -> Result<()> {
    skip_unless!(shim_possible());
    let scene = start("privileged_without_host_devices = true").await?;
    let node = &scene.node;
    for (handler, devices) in [(HANDLER, "none"), ("builtin", "there")] {
        let mut pod = node.pod(handler);
        let security = &mut pod.linux.get_or_insert_default().security_context;
        security.get_or_insert_default().privileged = true;
        let mut container = node.container("main", &scene.image, &["sleep", "600"]);
        let security = &mut container.linux.get_or_insert_default().security_context;
        security.get_or_insert_default().privileged = true;
        let (_, id) = node.run(&pod, &container, handler).await?;
        let script = "test -e /dev/kmsg && echo there || echo none";
        let seen = node.client.exec(&id, &["sh", "-c", script], 30).await?;
        ensure!(
            seen.stdout == format!("{devices}\n").as_bytes(),
            "{handler}: {seen:?}"
        );
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_that_memory_ran_out_in_its_guest() -> Result<()> {
    skip_unless!(shim_possible());
    let scene = start("").await?;
    let node = &scene.node;
    for (word, reason) in [("starves", "OOMKilled"), ("eats", "Error")] {
        let mut pod = node.pod(word);
        pod.labels.insert("shim".to_owned(), word.to_owned());
        let container = node.container("main", &scene.image, &["sh", "-c", "exit 137"]);
        let (_, id) = node.run(&pod, &container, HANDLER).await?;
        let status = node.exited(&id).await?;
        ensure!(
            status.reason == reason && status.exit_code == 137,
            "{word}: {status:?}"
        );
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_start_is_quoted() -> Result<()> {
    skip_unless!(shim_possible());
    let scene = start("container_create_timeout = 30").await?;
    for (word, reason) in [
        ("fails", "ended with code 3: there is no such hypervisor"),
        ("babbles", "`hello, world` where its address belongs"),
        ("dies", "closed the connection before it answered `Create`"),
        ("hangs", "did not end within 30 s, and was killed"),
    ] {
        let mut pod = scene.node.pod(word);
        pod.labels.insert("shim".to_owned(), word.to_owned());
        let answer = scene.node.client.run_pod(&pod, HANDLER).await;
        refused(answer, &[Code::Unknown], &[reason])
            .with_context(|| format!("a shim that {word}"))?;
    }
    // Neither is there a process of them, nor, as the node's end shows, anything else.
    let base = scene.node.place().base();
    let of_this_node = |process: &Path| {
        let line = std::fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        let place = std::fs::read_link(process.join("cwd")).unwrap_or_default();
        line.starts_with(SHIM) && place.starts_with(base)
    };
    eventually("no shim is left", async || {
        ensure!(process_with(of_this_node)?.is_none());
        Ok(())
    })
    .await?;
    scene.node.finish().await
}
