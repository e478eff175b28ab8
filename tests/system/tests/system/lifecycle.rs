//! Pods and containers through all their states, by the client of our own.

mod checkpoint;
mod deadlines;
mod events;
mod restore;
mod retries;

use anyhow::{Result, ensure};
use crioxide_cri_api::v1::{ContainerState, NamespaceMode, PodSandboxState};
use crioxide_test_support::node::pod_namespaces;
use crioxide_test_support::skip_unless;
use crioxide_test_support::waiting::eventually;
use tonic::Code;

use crate::scene::{Scene, possible, refused};
use crate::variants::set_namespaces;

#[tokio::test(flavor = "multi_thread")]
async fn states_follow_the_calls() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let (node, client) = (&scene.node, &scene.node.client);
    let pod = node.pod("states");
    let pod_id = client.run_pod(&pod, "").await?;
    ensure!(client.pod_status(&pod_id).await?.state() == PodSandboxState::SandboxReady);

    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let id = client.create(&pod_id, &container, &pod).await?;
    let created = client.container_status(&id).await?;
    ensure!(
        created.state() == ContainerState::ContainerCreated,
        "{created:?}"
    );
    ensure!(
        created.created_at > 0 && created.started_at == 0 && created.finished_at == 0,
        "{created:?}"
    );

    client.start(&id).await?;
    let running = client.container_status(&id).await?;
    ensure!(
        running.state() == ContainerState::ContainerRunning,
        "{running:?}"
    );
    ensure!(running.started_at >= running.created_at, "{running:?}");

    client.stop(&id, 0).await?;
    let exited = client.container_status(&id).await?;
    ensure!(
        exited.state() == ContainerState::ContainerExited,
        "{exited:?}"
    );
    ensure!(
        exited.exit_code == 137 && exited.finished_at >= exited.started_at,
        "{exited:?}"
    );

    client.stop_pod(&pod_id).await?;
    ensure!(client.pod_status(&pod_id).await?.state() == PodSandboxState::SandboxNotready);
    // Every removal may be repeated: the kubelet does.
    for _ in 0..2 {
        client.stop(&id, 0).await?;
        client.remove(&id).await?;
        client.stop_pod(&pod_id).await?;
        client.remove_pod(&pod_id).await?;
    }
    refused(
        client.container_status(&id).await,
        &[Code::NotFound],
        &[&id],
    )?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_and_reasons_are_reported() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    // No signal from inside kills the first process of a PID namespace: that case shares the pod's.
    for (name, script, processes, code, reason) in [
        ("fine", "exit 0", NamespaceMode::Container, 0, "Completed"),
        ("seven", "exit 7", NamespaceMode::Container, 7, "Error"),
        ("signal", "kill -9 $$", NamespaceMode::Pod, 137, "Error"),
    ] {
        let mut pod = node.pod(name);
        let mut container = node.container("main", &scene.image, &["sh", "-c", script]);
        set_namespaces(&mut pod, &mut container, &pod_namespaces(processes));
        let (_, id) = node.run(&pod, &container, "").await?;
        let status = node.exited(&id).await?;
        ensure!(
            status.exit_code == code && status.reason == reason,
            "{name}: {status:?}"
        );
    }
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_pod_takes_its_containers() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let (node, client) = (&scene.node, &scene.node.client);
    let pod = node.pod("together");
    let (pod_id, _) = node
        .run(
            &pod,
            &node.container("one", &scene.image, &["sleep", "600"]),
            "",
        )
        .await?;
    let two = client
        .create(
            &pod_id,
            &node.container("two", &scene.image, &["sleep", "600"]),
            &pod,
        )
        .await?;
    client.start(&two).await?;
    ensure!(client.list_containers().await?.len() == 2);
    client.stop_pod(&pod_id).await?;
    client.remove_pod(&pod_id).await?;
    ensure!(client.list_containers().await?.is_empty());
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_streams_and_times_out() -> Result<()> {
    skip_unless!(possible());
    execs("").await
}

/// ExecSync gives output and code, and ends at its deadline.
pub(crate) async fn execs(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let (node, client) = (&scene.node, &scene.node.client);
    let (_, id) = node
        .run(
            &node.pod("exec"),
            &node.container("main", &scene.image, &["sleep", "600"]),
            handler,
        )
        .await?;

    let big = client
        .exec(
            &id,
            &["sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x"],
            60,
        )
        .await?;
    ensure!(
        big.stdout.len() == 1_000_000 && big.stdout.iter().all(|byte| *byte == b'x'),
        "{}",
        big.stdout.len()
    );

    refused(
        client.exec(&id, &["sleep", "600"], 1).await,
        &[Code::DeadlineExceeded, Code::Unknown],
        &["timed out"],
    )?;
    eventually("the timed-out command is gone", async || {
        let seen = client.exec(&id, &["ps", "-o", "pid,args"], 30).await?;
        let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
        let sleeping = seen
            .lines()
            .filter(|line| line.ends_with("sleep 600"))
            .count();
        ensure!(sleeping == 1, "{seen}");
        Ok(())
    })
    .await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_log_is_reopened() -> Result<()> {
    skip_unless!(possible());
    rotated_log("").await
}

/// The log goes on in a new file, whoever writes it.
pub(crate) async fn rotated_log(handler: &str) -> Result<()> {
    let scene = Scene::start().await?;
    let (node, client) = (&scene.node, &scene.node.client);
    let pod = node.pod("rotate");
    let script = "echo before; while [ ! -e /go ]; do sleep 0.1; done; echo after; sleep 600";
    let (_, id) = node
        .run(
            &pod,
            &node.container("main", &scene.image, &["sh", "-c", script]),
            handler,
        )
        .await?;
    let path = std::path::Path::new(&pod.log_directory).join("main.log");
    eventually("the first line", async || {
        ensure!(std::fs::read_to_string(&path)?.contains("before"));
        Ok(())
    })
    .await?;
    std::fs::rename(&path, path.with_extension("1"))?;
    let request = crioxide_cri_api::v1::ReopenContainerLogRequest {
        container_id: id.clone(),
    };
    client.runtime.clone().reopen_container_log(request).await?;
    client.exec(&id, &["touch", "/go"], 30).await?;
    eventually("the second line in the new file", async || {
        let text = std::fs::read_to_string(&path)?;
        ensure!(text.contains("after") && !text.contains("before"), "{text}");
        Ok(())
    })
    .await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pod_has_its_own_names() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let (node, client) = (&scene.node, &scene.node.client);
    let (_, id) = node
        .run(
            &node.pod("names"),
            &node.container("main", &scene.image, &["sleep", "600"]),
            "",
        )
        .await?;
    let read = async |command: &[&str]| -> Result<String> {
        let done = client.exec(&id, command, 30).await?;
        ensure!(done.exit_code == 0, "{command:?}: {done:?}");
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    };
    ensure!(read(&["hostname"]).await? == "names\n");
    let resolv = read(&["cat", "/etc/resolv.conf"]).await?;
    for line in [
        "nameserver 192.0.2.53",
        "search test.example",
        "options ndots:5",
    ] {
        ensure!(resolv.contains(line), "no `{line}` in {resolv}");
    }
    ensure!(read(&["df", "/dev/shm"]).await?.contains("/dev/shm"));
    ensure!(
        read(&["sh", "-c", "ls /proc | grep -c '^[0-9]*$'"])
            .await?
            .trim()
            .parse::<u32>()?
            <= 6,
        "sees foreign processes"
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_reach_each_other_by_address() -> Result<()> {
    skip_unless!(possible());
    let scene = Scene::start().await?;
    let (node, client) = (&scene.node, &scene.node.client);
    let serve = [
        "sh",
        "-c",
        "mkdir -p /www && echo hello > /www/index.html && exec httpd -f -p 8080 -h /www",
    ];
    let (server, _) = node
        .run(
            &node.pod("server"),
            &node.container("main", &scene.image, &serve),
            "",
        )
        .await?;
    let (_, caller) = node
        .run(
            &node.pod("caller"),
            &node.container("main", &scene.image, &["sleep", "600"]),
            "",
        )
        .await?;
    let ip = client
        .pod_status(&server)
        .await?
        .network
        .map(|network| network.ip)
        .unwrap_or_default();
    let url = format!("http://{ip}:8080/");
    eventually("an answer from pod to pod", async || {
        let done = client
            .exec(&caller, &["wget", "-q", "-O", "-", &url], 30)
            .await?;
        ensure!(done.stdout == b"hello\n", "{done:?}");
        Ok(())
    })
    .await?;
    eventually("an answer from host to pod", async || {
        let text = crioxide_test_support::registry::http_client()?
            .get(&url)
            .send()
            .await?
            .text()
            .await?;
        ensure!(text == "hello\n", "{text}");
        Ok(())
    })
    .await?;
    scene.node.finish().await
}
