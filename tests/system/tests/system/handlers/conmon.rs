//! The real conmon as a handler's monitor, one per container, with runc behind it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::ContainerState;
use crioxide_test_support::waiting::{LIMIT, eventually, scaled};
use crioxide_test_support::{NodeOptions, TestNode, requirements, skip_unless};
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;

use crate::scene::{Scene, possible, refused};
use crate::survival::restart::{End, container_pid, parent_of};

const HANDLER: &str = "conmon";

fn conmon_possible() -> Result<(), String> {
    possible()?;
    requirements::program("runc")?;
    requirements::program("conmon").map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn gives_the_same_world() -> Result<()> {
    skip_unless!(conmon_possible());
    crate::handlers::contract(HANDLER).await
}

#[tokio::test(flavor = "multi_thread")]
async fn execs() -> Result<()> {
    skip_unless!(conmon_possible());
    crate::lifecycle::execs(HANDLER).await
}

#[tokio::test(flavor = "multi_thread")]
async fn reopens_a_rotated_log() -> Result<()> {
    skip_unless!(conmon_possible());
    crate::lifecycle::rotated_log(HANDLER).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_of_too_much_memory() -> Result<()> {
    skip_unless!(conmon_possible());
    crate::resources::oom_kill(HANDLER).await
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_an_infra_container() -> Result<()> {
    skip_unless!(conmon_possible());
    crate::variants::one_pid_namespace(HANDLER).await
}

#[tokio::test(flavor = "multi_thread")]
async fn outlives_the_daemon() -> Result<()> {
    skip_unless!(conmon_possible());
    crate::survival::restart::pods_survive(End::Killed, HANDLER).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_one_leaves_the_container_usable() -> Result<()> {
    skip_unless!(conmon_possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let pod = node.pod("orphan");
    let (_, id) = node
        .run(
            &pod,
            &node.container("main", &scene.image, &["sleep", "600"]),
            HANDLER,
        )
        .await?;
    let pid = container_pid(node, &id).await?;
    let conmon = parent_of(pid)?;
    ensure!(
        name_of(conmon)? == "conmon",
        "the parent is {}",
        name_of(conmon)?
    );
    // Born in the pod's cgroup, never moved there by the daemon.
    let groups = std::fs::read_to_string(format!("/proc/{conmon}/cgroup"))?;
    ensure!(groups.contains(&format!("crio-conmon-{id}")), "{groups}");
    kill_process(Pid::from_raw(conmon).context("a process")?, Signal::KILL)?;
    eventually("the death is told", async || {
        ensure!(
            node.log()
                .contains(&format!("Conmon for container {id} is stopped"))
        );
        Ok(())
    })
    .await?;
    let status = node.client.container_status(&id).await?;
    ensure!(
        status.state() == ContainerState::ContainerRunning,
        "{status:?}"
    );
    let done = node.client.exec(&id, &["echo", "alive"], 30).await?;
    ensure!(done.stdout == b"alive\n", "{done:?}");
    node.client.stop(&id, 0).await?;
    // Nobody was there to see how it ended, unless the kernel still had it.
    let status = node.client.container_status(&id).await?;
    ensure!([137, 255].contains(&status.exit_code), "{status:?}");
    scene.node.finish().await
}

/// A runtime that is killed when the container's process is there already: conmon would wait for the end of that.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_runtime_holds_nobody_up() -> Result<()> {
    skip_unless!(conmon_possible());
    let program = |name| requirements::program(name).map_err(anyhow::Error::msg);
    let (runc, conmon) = (program("runc")?, program("conmon")?);
    let state = tempfile::tempdir()?;
    let dying = state.path().join("runc");
    let script = format!(
        "#!/bin/sh\n{} \"$@\" || exit\ncase \"$*\" in *create*) kill -KILL $$;; esac\n",
        runc.display()
    );
    std::fs::write(&dying, script)?;
    std::fs::set_permissions(&dying, std::fs::Permissions::from_mode(0o755))?;
    let options = NodeOptions {
        more_tables: format!(
            "[crio.runtime.runtimes.dying]\nruntime_path = \"{}\"\nruntime_root = \"{}\"\n\
             monitor_path = \"{}\"\nmonitor_cgroup = \"pod\"\n",
            dying.display(),
            state.path().join("state").display(),
            conmon.display()
        ),
        ..NodeOptions::default()
    };
    let scene = Scene::start_with(options).await?;
    let node = &scene.node;
    let pod = node.pod("held-up");
    let pod_id = node.client.run_pod(&pod, "dying").await?;
    let container = node.container("main", &scene.image, &["sleep", "600"]);
    let made = tokio::time::timeout(scaled(LIMIT), node.client.create(&pod_id, &container, &pod));
    let made = made.await.context("the creation is stuck")?;
    refused(made, &[Code::Unknown], &["container create failed"])?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_can_be_switched_to_our_monitor_and_back() -> Result<()> {
    skip_unless!(conmon_possible());
    let mut scene = Scene::start().await?;
    let node = &mut scene.node;
    let pod = node.pod("switched");
    let script = "while [ ! -e /end ]; do sleep 0.05; done; exit 7";
    let run = ["sh", "-c", script];
    let (pod_id, old) = node
        .run(&pod, &node.container("old", &scene.image, &run), HANDLER)
        .await?;
    let conf = std::fs::read_to_string(node.place().conf())?;
    let ours = conf.replace(
        "monitor_path = \"/usr/bin/conmon\"",
        "monitor_path = \"builtin\"",
    );
    ensure!(ours != conf, "conmon is named in the configuration");
    let new = made_after_a_switch(node, &ours, &pod_id, &pod, &scene.image, "new").await?;
    ensure!(monitor_of(node, &old).await? == "conmon" && monitor_of(node, &new).await? != "conmon");
    let newest = made_after_a_switch(node, &conf, &pod_id, &pod, &scene.image, "newest").await?;
    ensure!(monitor_of(node, &newest).await? == "conmon");
    for id in [&old, &new, &newest] {
        let done = node.client.exec(id, &["touch", "/end"], 30).await?;
        ensure!(done.exit_code == 0, "{done:?}");
        ensure!(node.exited(id).await?.exit_code == 7);
    }
    scene.node.finish().await
}

/// Starts the daemon with another configuration, and makes a container in a pod that was there before.
async fn made_after_a_switch(
    node: &mut TestNode,
    conf: &str,
    pod_id: &str,
    pod: &crioxide_cri_api::v1::PodSandboxConfig,
    image: &str,
    name: &str,
) -> Result<String> {
    node.stop().await?;
    std::fs::write(node.place().conf(), conf)?;
    node.start_again().await?;
    let script = "while [ ! -e /end ]; do sleep 0.05; done; exit 7";
    let container = node.container(name, image, &["sh", "-c", script]);
    let id = node.client.create(pod_id, &container, pod).await?;
    node.client.start(&id).await?;
    Ok(id)
}

/// The name of the process that watches the container.
async fn monitor_of(node: &TestNode, container: &str) -> Result<String> {
    name_of(parent_of(container_pid(node, container).await?)?)
}

fn name_of(pid: i32) -> Result<String> {
    let path = format!("/proc/{pid}/comm");
    let name = std::fs::read_to_string(Path::new(&path)).with_context(|| path.clone())?;
    Ok(name.trim().to_owned())
}
