//! containerd's shim v2 as a handler: Debian's for runc, which stands for all.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::{ContainerState, PodSandboxConfig, PodSandboxState};
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{TestNode, requirements, skip_unless};
use rustix::process::{Pid, Signal, kill_process};

use crate::scene::{Scene, possible};
use crate::streaming::attach;
use crate::survival::kill::killed_at_any_moment;
use crate::survival::restart::{End, container_pid, parent_of, pods_survive};

const HANDLER: &str = "shim";

fn shim_possible() -> Result<(), String> {
    possible()?;
    requirements::shim()
}

macro_rules! the_same_with_a_shim {
    ($($name:ident: $test:expr;)+) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() -> Result<()> {
            skip_unless!(shim_possible());
            $test.await
        })+
    };
}

the_same_with_a_shim! {
    gives_the_same_world: crate::handlers::contract(HANDLER);
    execs: crate::lifecycle::execs(HANDLER);
    reopens_a_rotated_log: crate::lifecycle::rotated_log(HANDLER);
    tells_of_too_much_memory: crate::resources::oom_kill(HANDLER);
    changes_limits: crate::resources::limits(HANDLER);
    tells_what_is_used: crate::resources::usage(HANDLER);
    pauses_and_is_inspected: crate::resources::metrics::inspected(HANDLER);
    watches_an_infra_container: crate::variants::one_pid_namespace(HANDLER);
    outlives_a_killed_daemon: pods_survive(End::Killed, HANDLER);
    outlives_a_daemon: pods_survive(End::Graceful, HANDLER);
    gives_back_what_a_killed_daemon_began: killed_at_any_moment(HANDLER);
    streams_whole: crate::streaming::exec::big_streams(HANDLER);
    gives_terminals: crate::streaming::exec::in_a_terminal(HANDLER);
    ends_a_session_with_its_command: crate::streaming::exec::left_behind(HANDLER);
    attaches_several_clients: attach::several_clients(HANDLER);
    keeps_input_open: attach::open_input(HANDLER);
    attaches_to_a_terminal: attach::terminal(HANDLER);
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_kinds_of_memory_kills_apart() -> Result<()> {
    skip_unless!(shim_possible());
    use crate::resources::oom::{ENOUGH_FOR_RUNC, all_kinds};
    all_kinds(HANDLER, ENOUGH_FOR_RUNC).await
}

/// A pod with a container that logs a number every moment.
async fn counting(
    node: &TestNode,
    image: &str,
    name: &str,
) -> Result<(PodSandboxConfig, String, String)> {
    let pod = node.pod(name);
    let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";
    let container = node.container("main", image, &["sh", "-c", script]);
    let (pod_id, id) = node.run(&pod, &container, HANDLER).await?;
    Ok((pod, pod_id, id))
}

async fn logs_on(node: &TestNode, pod: &PodSandboxConfig) -> Result<()> {
    let lines =
        || Ok::<_, anyhow::Error>(node.container_log(pod, "main")?["stdout"].lines().count());
    let before = eventually("it logs", async || lines()).await?;
    eventually("it logs on", async || {
        ensure!(lines()? > before, "{before} lines");
        Ok(())
    })
    .await
}

/// The shim that is the parent of the container's first process.
async fn shim_of(node: &TestNode, id: &str) -> Result<Pid> {
    let shim = parent_of(container_pid(node, id).await?)?;
    let name = std::fs::read_to_string(format!("/proc/{shim}/cmdline"))?;
    ensure!(name.contains("containerd-shim"), "the parent is {name:?}");
    Pid::from_raw(shim).context("a process")
}

/// Waits for the end of a process, which somebody else has to reap.
async fn ended(pid: i32) -> Result<()> {
    eventually("the process has ended", async || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        ensure!(!stat.is_ok_and(|stat| !stat.contains(") Z ")));
        Ok(())
    })
    .await
}

async fn is_usable(node: &TestNode, id: &str) -> Result<()> {
    let status = node.client.container_status(id).await?;
    ensure!(
        status.state() == ContainerState::ContainerRunning,
        "{status:?}"
    );
    let done = node.client.exec(id, &["echo", "alive"], 30).await?;
    ensure!(done.stdout == b"alive\n", "{done:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_serves_all_containers_of_its_pod() -> Result<()> {
    skip_unless!(shim_possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let (pod, pod_id, first) = counting(node, &scene.image, "shared").await?;
    let container = node.container("second", &scene.image, &["sleep", "600"]);
    let second = node.client.create(&pod_id, &container, &pod).await?;
    node.client.start(&second).await?;
    let (_, _, other) = counting(node, &scene.image, "other").await?;
    let shim = shim_of(node, &first).await?;
    ensure!(shim_of(node, &second).await? == shim && shim_of(node, &other).await? != shim);
    // Born in the pod's cgroup.
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", shim.as_raw_nonzero()))?;
    ensure!(
        groups.contains(&format!("crio-conmon-{pod_id}-shim")),
        "{groups}"
    );
    node.client.stop(&first, 0).await?;
    node.client.remove(&first).await?;
    is_usable(node, &second).await?;
    // It tells events, and somebody takes them.
    ensure!(
        !node.log().contains("failed to connect"),
        "{}",
        node.log_tail(30)
    );
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_one_takes_only_its_own_pod_along() -> Result<()> {
    skip_unless!(shim_possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let (_, dead_pod, dead) = counting(node, &scene.image, "dead").await?;
    let (pod, living_pod, living) = counting(node, &scene.image, "living").await?;
    let pid = container_pid(node, &dead).await?;
    kill_process(shim_of(node, &dead).await?, Signal::KILL)?;
    let status = node.exited(&dead).await?;
    ensure!(status.exit_code == 137, "{status:?}");
    ended(pid).await?;
    ensure!(node.log().contains(&format!(
        "The shim of container {dead} in pod {dead_pod} has died"
    )));
    eventually("the pod is not ready", async || {
        let status = node.client.pod_status(&dead_pod).await?;
        ensure!(
            status.state() == PodSandboxState::SandboxNotready,
            "{status:?}"
        );
        Ok(())
    })
    .await?;
    let status = node.client.pod_status(&living_pod).await?;
    ensure!(
        status.state() == PodSandboxState::SandboxReady,
        "{status:?}"
    );
    is_usable(node, &living).await?;
    logs_on(node, &pod).await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_died_while_the_daemon_was_away_is_noticed() -> Result<()> {
    skip_unless!(shim_possible());
    let mut scene = Scene::start().await?;
    let (_, _, id) = counting(&scene.node, &scene.image, "dead").await?;
    let shim = shim_of(&scene.node, &id).await?;
    scene.node.kill().await?;
    kill_process(shim, Signal::KILL)?;
    scene.node.start_again().await?;
    let status = scene.node.exited(&id).await?;
    ensure!(status.exit_code == 137, "{status:?}");
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_holds_only_its_own_pod_up() -> Result<()> {
    skip_unless!(shim_possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let (_, _, held) = counting(node, &scene.image, "held").await?;
    let (pod, _, living) = counting(node, &scene.image, "living").await?;
    let shim = shim_of(node, &held).await?;
    kill_process(shim, Signal::STOP)?;
    let refused = node.client.exec(&held, &["true"], 60).await;
    let message = refused
        .err()
        .context("nobody runs it")?
        .message()
        .to_owned();
    ensure!(
        message.contains("the shim has not answered `Exec`"),
        "{message}"
    );
    is_usable(node, &living).await?;
    logs_on(node, &pod).await?;
    // The kernel ends what the shim does not, and it is seen although the shim does not tell.
    node.client.stop(&held, 0).await?;
    let status = node.exited(&held).await?;
    ensure!(status.exit_code == 137, "{status:?}");
    // To remove the pod its shim is ended.
    scene.node.remove_pods().await?;
    ended(shim.as_raw_nonzero().get()).await?;
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_does_not_keep_the_daemon_from_starting() -> Result<()> {
    skip_unless!(shim_possible());
    let mut scene = Scene::start().await?;
    let (pod, _, id) = counting(&scene.node, &scene.image, "held").await?;
    let shim = shim_of(&scene.node, &id).await?;
    kill_process(shim, Signal::STOP)?;
    scene.node.kill().await?;
    scene.node.start_again().await?;
    let status = scene.node.client.container_status(&id).await?;
    ensure!(
        status.state() == ContainerState::ContainerRunning,
        "{status:?}"
    );
    kill_process(shim, Signal::CONT)?;
    is_usable(&scene.node, &id).await?;
    logs_on(&scene.node, &pod).await?;
    scene.node.finish().await
}

/// CRI-O writes nothing down but what the shim itself leaves, and its FIFOs are elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_cri_o_started_is_taken_over() -> Result<()> {
    skip_unless!(shim_possible());
    let mut scene = Scene::start().await?;
    let (pod, pod_id, id) = counting(&scene.node, &scene.image, "taken").await?;
    logs_on(&scene.node, &pod).await?;
    scene.node.kill().await?;
    kill_process(monitor_of(&scene.node, &pod_id)?, Signal::KILL)?;
    for id in [&id, &pod_id] {
        let bundle = std::fs::canonicalize(scene.node.place().base().join("attach").join(id))?;
        ensure!(bundle.join("address").exists());
        for ours in ["kept-stdio.json", "bootstrap.json", "shim-process"] {
            std::fs::remove_file(bundle.join(ours))?;
        }
    }
    scene.node.start_again().await?;
    logs_on(&scene.node, &pod).await?;
    is_usable(&scene.node, &id).await?;
    scene.node.client.stop(&id, 0).await?;
    ensure!(scene.node.exited(&id).await?.exit_code == 137);
    scene.node.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_goes_on_under_another_monitor() -> Result<()> {
    skip_unless!(shim_possible());
    let scene = Scene::start().await?;
    let node = &scene.node;
    let (pod, pod_id, id) = counting(node, &scene.image, "kept").await?;
    logs_on(node, &pod).await?;
    kill_process(monitor_of(node, &pod_id)?, Signal::KILL)?;
    eventually("its death is told", async || {
        ensure!(
            node.log()
                .contains(&format!("Monitor for pod {pod_id} is stopped"))
        );
        Ok(())
    })
    .await?;
    logs_on(node, &pod).await?;
    is_usable(node, &id).await?;
    // Every line is there, in order.
    node.client.stop(&id, 0).await?;
    ensure!(node.exited(&id).await?.exit_code == 137);
    let log = node.container_log(&pod, "main")?;
    for (line, number) in log["stdout"].lines().zip(1..) {
        ensure!(
            line == number.to_string(),
            "{line} in the place of {number}"
        );
    }
    scene.node.finish().await
}

/// The monitor of the node's only pod.
fn monitor_of(node: &TestNode, pod: &str) -> Result<Pid> {
    // On version 1 it is in the pod's cgroup, on version 2 in one of its own.
    let (shared, own) = (
        format!(":{}\n", node.place().cgroup_parent()),
        format!("crio-conmon-{pod}\n"),
    );
    let found = process_with(|process| {
        let name = std::fs::read_to_string(process.join("comm")).unwrap_or_default();
        let groups = std::fs::read_to_string(process.join("cgroup")).unwrap_or_default();
        name.trim() == "crioxide-mon" && (groups.contains(&shared) || groups.contains(&own))
    })?;
    found
        .and_then(Pid::from_raw)
        .context("the pod has no monitor")
}

/// The first process of which this is true of its directory in /proc.
pub(crate) fn process_with(wanted: impl Fn(&Path) -> bool) -> Result<Option<i32>> {
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let pid = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        if pid.is_some() && wanted(&path) {
            return Ok(pid);
        }
    }
    Ok(None)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_daemon_ran_is_ended() -> Result<()> {
    skip_unless!(shim_possible());
    let mut scene = Scene::start().await?;
    let (_, _, id) = counting(&scene.node, &scene.image, "execs").await?;
    let client = scene.node.client.clone();
    let container = id.clone();
    // Told from all others by its argument.
    let number = (u64::from(std::process::id()) + 1_000_000).to_string();
    let command = ["sleep".to_owned(), number];
    let argument = command.join("\0");
    let exec = tokio::spawn(async move {
        let command = command.each_ref().map(String::as_str);
        client.exec(&container, &command, 600).await
    });
    let pid = eventually("the process runs", async || {
        let found = process_with(|process| {
            let line = std::fs::read_to_string(process.join("cmdline")).unwrap_or_default();
            line.trim_end_matches('\0') == argument
        })?;
        found.context("it does not yet")
    })
    .await?;
    scene.node.kill().await?;
    exec.abort();
    scene.node.start_again().await?;
    ended(pid).await.with_context(|| scene.node.log_tail(60))?;
    is_usable(&scene.node, &id).await?;
    scene.node.finish().await
}
