//! Pods live on while the daemon is away, and are all there when it is back.

use anyhow::{Result, ensure};
use crioxide_cri_api::v1::{ContainerState, NamespaceMode, PodSandboxState};
use crioxide_test_support::node::pod_namespaces;
use crioxide_test_support::skip_unless;
use crioxide_test_support::waiting::eventually;

use crate::scene::{Scene, possible};

#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Graceful,
    Killed,
}

#[tokio::test(flavor = "multi_thread")]
async fn graceful() -> Result<()> {
    skip_unless!(possible());
    pods_survive(End::Graceful, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed() -> Result<()> {
    skip_unless!(possible());
    pods_survive(End::Killed, "").await
}

pub(crate) async fn pods_survive(end: End, handler: &str) -> Result<()> {
    let mut scene = Scene::start().await?;
    let node = &mut scene.node;
    let pod = node.pod("survivor");
    let script = "i=0; while [ ! -e /end ]; do i=$((i+1)); echo $i; sleep 0.05; done; exit 9";
    let (pod_id, runs) = node
        .run(
            &pod,
            &node.container("runs", &scene.image, &["sh", "-c", script]),
            handler,
        )
        .await?;
    let short = node.container(
        "ends",
        &scene.image,
        &[
            "sh",
            "-c",
            "while [ ! -e /end ]; do sleep 0.05; done; exit 5",
        ],
    );
    let ends = node.client.create(&pod_id, &short, &pod).await?;
    node.client.start(&ends).await?;
    let idle = node
        .client
        .create(
            &pod_id,
            &node.container("idle", &scene.image, &["true"]),
            &pod,
        )
        .await?;
    let before = node.client.pod_status(&pod_id).await?;
    let started_at = node.client.container_status(&runs).await?.started_at;
    // The second container ends while nobody is there to see it.
    let ends_pid = container_pid(node, &ends).await?;

    match end {
        End::Graceful => node.stop().await?,
        End::Killed => node.kill().await?,
    }
    let lines = node.container_log(&pod, "runs")?["stdout"].lines().count();
    std::fs::write(format!("/proc/{ends_pid}/root/end"), "")?;
    eventually("the container without a daemon ends", async || {
        ensure!(!std::path::Path::new(&format!("/proc/{ends_pid}")).exists());
        Ok(())
    })
    .await?;
    eventually("the log grows without a daemon", async || {
        ensure!(node.container_log(&pod, "runs")?["stdout"].lines().count() > lines);
        Ok(())
    })
    .await?;
    node.start_again().await?;

    let after = node.client.pod_status(&pod_id).await?;
    ensure!(after.state() == PodSandboxState::SandboxReady, "{after:?}");
    ensure!(
        after.network == before.network && after.created_at == before.created_at,
        "{before:?}\n{after:?}"
    );
    let status = node.client.container_status(&runs).await?;
    ensure!(
        status.state() == ContainerState::ContainerRunning && status.started_at == started_at,
        "{status:?}"
    );
    let status = node.exited(&ends).await?;
    ensure!(
        status.exit_code == 5 && status.finished_at > status.started_at,
        "{status:?}"
    );
    let status = node.client.container_status(&idle).await?;
    ensure!(
        status.state() == ContainerState::ContainerCreated,
        "{status:?}"
    );

    // And everything can still be done with them.
    node.client.start(&idle).await?;
    ensure!(node.exited(&idle).await?.exit_code == 0);
    let done = node.client.exec(&runs, &["echo", "alive"], 30).await?;
    ensure!(done.stdout == b"alive\n", "{done:?}");
    // Not by an exec, which would be killed together with the first process.
    let pid = container_pid(node, &runs).await?;
    std::fs::write(format!("/proc/{pid}/root/end"), "")?;
    ensure!(node.exited(&runs).await?.exit_code == 9);
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_monitor_is_reported() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let (_, id) = node
        .run(
            &node.pod("orphan"),
            &node.container("main", &scene.image, &["sleep", "600"]),
            "",
        )
        .await?;
    let pid = container_pid(node, &id).await?;
    let monitor = parent_of(pid)?;
    ensure!(
        monitor > 1,
        "the container's parent is its monitor, not {monitor}"
    );
    let monitor = rustix::process::Pid::from_raw(monitor).expect("more than one");
    rustix::process::kill_process(monitor, rustix::process::Signal::KILL)?;
    eventually("the daemon reports what is", async || {
        let alive = std::path::Path::new(&format!("/proc/{pid}")).exists();
        let status = node.client.container_status(&id).await?;
        let expected = if alive {
            ContainerState::ContainerRunning
        } else {
            ContainerState::ContainerExited
        };
        ensure!(status.state() == expected, "alive: {alive}, {status:?}");
        Ok(())
    })
    .await?;
    scene.node.finish().await
}

/// The kubelet keeps stopped pods for a while, and kills what is in their cgroups.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_pod_has_no_monitor() -> Result<()> {
    skip_unless!(possible());
    let mut scene = Scene::start().await?;
    let node = &mut scene.node;
    let mut pods = Vec::new();
    for mode in [NamespaceMode::Container, NamespaceMode::Pod] {
        let mut pod = node.pod(&format!("kept{}", mode as i32));
        pod.linux
            .get_or_insert_default()
            .security_context
            .get_or_insert_default()
            .namespace_options = Some(pod_namespaces(mode));
        let script = "trap 'exit 4' TERM; while :; do sleep 0.05; done";
        let container = node.container("main", &scene.image, &["sh", "-c", script]);
        let (pod, id) = node.run(&pod, &container, "").await?;
        let monitor = parent_of(container_pid(node, &id).await?)?;
        ensure!(monitor > 1, "the parent of the container is {monitor}");
        pods.push((pod, id, monitor));
    }
    for (pod, _, monitor) in &pods {
        node.client.stop_pod(pod).await?;
        let monitor = std::path::PathBuf::from(format!("/proc/{monitor}"));
        ensure!(!monitor.exists(), "{pod} still has its monitor");
        // Again, as the kubelet does.
        node.client.stop_pod(pod).await?;
    }
    node.kill().await?;
    node.start_again().await?;
    for (pod, id, _) in &pods {
        let status = node.client.container_status(id).await?;
        ensure!(
            (status.state(), status.exit_code) == (ContainerState::ContainerExited, 4),
            "{status:?}"
        );
        let exec = node.client.exec(id, &["true"], 5).await;
        ensure!(exec.is_err(), "an exec in a stopped pod: {exec:?}");
        node.client.remove(id).await?;
        node.client.remove_pod(pod).await?;
    }
    ensure!(!node.log().contains("although the pod is running"));
    scene.node.finish().await
}

/// The host's process id of the container's first process.
pub(crate) async fn container_pid(
    node: &crioxide_test_support::TestNode,
    container: &str,
) -> Result<i32> {
    let request = crioxide_cri_api::v1::ContainerStatusRequest {
        container_id: container.to_owned(),
        verbose: true,
    };
    let answer = node
        .client
        .runtime
        .clone()
        .container_status(request)
        .await?
        .into_inner();
    let info: serde_json::Value =
        serde_json::from_str(answer.info.get("info").map_or("{}", String::as_str))?;
    let pid = info["pid"].as_i64().unwrap_or(0);
    ensure!(pid > 1, "the verbose status holds the process id: {info}");
    Ok(i32::try_from(pid)?)
}

/// The same, from the record, while no daemon runs.
pub(crate) fn pid_in_records(
    node: &crioxide_test_support::TestNode,
    container: &str,
) -> Result<i64> {
    let path = format!("overlay-containers/{container}/userdata/state.json");
    let state: serde_json::Value =
        serde_json::from_slice(&std::fs::read(node.place().root().join(path))?)?;
    let pid = state["pid"].as_i64().unwrap_or(0);
    ensure!(pid > 1, "state.json holds the process id: {state}");
    Ok(pid)
}

pub(crate) fn parent_of(pid: i32) -> Result<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("PPid:"));
    Ok(line.unwrap_or("0").trim().parse()?)
}
