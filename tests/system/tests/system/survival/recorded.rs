//! A node as CRI-O leaves it, made without CRI-O: records in its spelling, runc's containers under conmon started with
//! its arguments, namespaces, mounts, network and cgroups in its places. We take it over as it is.

mod documents;
mod host;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::{self, ContainerState, PodSandboxState};
use crioxide_test_support::image::{Format, ImageBuilder};
use crioxide_test_support::waiting::eventually;
use crioxide_test_support::{NodeOptions, ScriptedRegistry, TestNode, requirements, skip_unless};
use serde_json::Value;

use crate::scene::{possible, systemd_driver};
use crate::streaming::attach::greet;
use documents::{CREATED, Container, FINISHED, Frame, Pod, STARTED, Stage};
use host::Recorded;

const HANDLER: &str = "conmon";
const SERVE: &str = "trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";
const UNTIL_TOLD: &str = "while [ ! -e /end ]; do sleep 0.05; done; exit 5";
const ECHO: &str = "while read line; do echo \"$line\"; done";

fn tools() -> Result<(), String> {
    for program in [
        "conmon",
        "runc",
        "unshare",
        "/usr/lib/cni/bridge",
        "/usr/lib/cni/host-local",
    ] {
        requirements::program(program)?;
    }
    if systemd_driver() {
        return Err("is a node with the cgroupfs driver".to_owned());
    }
    Ok(())
}

/// A container with the state, code and reason that it has to be reported with.
#[derive(Debug)]
struct Expected {
    pod: Pod,
    container: Container,
    state: ContainerState,
    code: i32,
    reason: &'static str,
}

/// A container to be made, and what is to be reported of it.
struct Wanted {
    pod: &'static str,
    name: &'static str,
    script: &'static str,
    stage: Stage,
    /// Whether it has an open stdin, and a terminal.
    io: (bool, bool),
    state: ContainerState,
    code: i32,
    reason: &'static str,
}

impl Wanted {
    const fn running(pod: &'static str, name: &'static str, script: &'static str) -> Self {
        Self {
            pod,
            name,
            script,
            stage: Stage::Running,
            io: (false, false),
            state: ContainerState::ContainerRunning,
            code: 0,
            reason: "",
        }
    }

    /// As [`Self::running`], but ended before we come.
    const fn ended(self, stage: Stage, code: i32, reason: &'static str) -> Self {
        Self {
            stage,
            state: ContainerState::ContainerExited,
            code,
            reason,
            ..self
        }
    }
}

const fn exited(code: i32, oom: bool) -> Stage {
    Stage::Ended { code, oom }
}

const CONTAINERS: [Wanted; 8] = [
    Wanted::running("web", "running", SERVE),
    Wanted::running("web", "ending", UNTIL_TOLD).ended(Stage::Running, 5, "Error"),
    Wanted::running("web", "three", "exit 3").ended(exited(3, false), 3, "Error"),
    Wanted::running("web", "greedy", "tail /dev/zero").ended(exited(137, true), 137, "OOMKilled"),
    Wanted {
        stage: Stage::Created,
        state: ContainerState::ContainerCreated,
        ..Wanted::running("web", "created", "exit 4")
    },
    Wanted {
        io: (true, false),
        ..Wanted::running("shared", "input", ECHO)
    },
    Wanted {
        io: (true, true),
        ..Wanted::running("shared", "terminal", ECHO)
    },
    Wanted::running("stopped", "done", "true").ended(exited(0, false), 0, "Completed"),
];

struct Made {
    frame: Frame,
    web: Pod,
    shared: Pod,
    stopped: Pod,
    all: Vec<Expected>,
}

impl Made {
    fn id(&self, name: &str) -> Result<&str> {
        let found = self.all.iter().find(|one| one.container.name == name);
        Ok(&found
            .with_context(|| format!("a container {name}"))?
            .container
            .id)
    }
}

async fn make(node: &TestNode, image: &str) -> Result<Made> {
    let [runc, conmon] = ["runc", "conmon"].map(requirements::program);
    let [runc, conmon] = [runc, conmon].map(|found| found.map_err(anyhow::Error::msg));
    let mut recorded = Recorded::begin(node, image, runc?, conmon?)?;
    let web = recorded.pod("web", false).await.context("the pod `web`")?;
    let shared = recorded
        .pod("shared", true)
        .await
        .context("the pod `shared`")?;
    let stopped = recorded
        .pod("stopped", false)
        .await
        .context("the pod `stopped`")?;
    let mut all = Vec::new();
    let mut ending = None;
    for wanted in CONTAINERS {
        let name = wanted.name;
        let pod = match wanted.pod {
            "web" => &web,
            "shared" => &shared,
            _ => &stopped,
        };
        let (container, init) = recorded
            .container(pod, name, wanted.script, wanted.stage, wanted.io)
            .await
            .with_context(|| format!("the container `{name}`"))?;
        if name == "ending" {
            ending = Some(init.pid);
        }
        all.push(Expected {
            pod: pod.clone(),
            container,
            state: wanted.state,
            code: wanted.code,
            reason: wanted.reason,
        });
    }
    recorded.stopped(&stopped).await.context("stop a pod")?;
    let frame = recorded.finish()?;
    // Nobody is there to see this end.
    let pid = ending.context("a container that ends")?;
    std::fs::write(format!("/proc/{pid}/root/end"), "")?;
    let made = Made {
        frame,
        web,
        shared,
        stopped,
        all,
    };
    let exit = made.frame.base.join("exits").join(made.id("ending")?);
    eventually("conmon reports the end", async || {
        ensure!(exit.exists());
        Ok(())
    })
    .await?;
    Ok(made)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_cri_o_is_taken_over() -> Result<()> {
    skip_unless!(possible(), tools());
    let registry = ScriptedRegistry::start().await?;
    let image = ImageBuilder::busybox(Format::Oci)?.build()?;
    let image = registry.add("test/busybox", "1", &image);
    let mut node = TestNode::start(NodeOptions {
        insecure_registries: vec![registry.host()],
        default_handler: HANDLER.to_owned(),
        plugin_directories: vec!["/usr/lib/cni".into()],
        ..NodeOptions::default()
    })
    .await?;
    node.client.pull(&image).await.context("PullImage")?;
    node.stop().await?;
    let made = make(&node, &image).await?;
    node.start_again().await?;

    pods_are_as_recorded(&node, &made).await?;
    containers_are_as_recorded(&node, &made).await?;
    usable(&node, &made).await?;
    ends(&node, &made).await?;
    node.remove_pods().await?;
    // The kubelet's part; it fails where a group of ours is left in one, in any hierarchy.
    host::remove_pod_groups(&made.frame, &[&made.web, &made.shared, &made.stopped])?;
    node.finish().await
}

/// A JSON object of texts.
fn texts(value: &Value) -> std::collections::HashMap<String, String> {
    let object = value.as_object().into_iter().flatten();
    object
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

async fn pods_are_as_recorded(node: &TestNode, made: &Made) -> Result<()> {
    let listed = node.client.list_pods().await?;
    ensure!(listed.len() == 3, "{listed:#?}");
    for (pod, state) in [
        (&made.web, PodSandboxState::SandboxReady),
        (&made.shared, PodSandboxState::SandboxReady),
        (&made.stopped, PodSandboxState::SandboxNotready),
    ] {
        let one = listed.iter().find(|one| one.id == pod.id);
        let one = one.with_context(|| format!("`{}` is listed: {listed:#?}", pod.name))?;
        let metadata = v1::PodSandboxMetadata {
            name: pod.name.to_owned(),
            uid: pod.uid.clone(),
            namespace: "default".to_owned(),
            attempt: 0,
        };
        ensure!(
            one.metadata.as_ref() == Some(&metadata)
                && one.state() == state
                && one.created_at == CREATED.1
                && one.labels == texts(&documents::pod_labels(pod))
                && one.annotations == texts(&documents::pod_annotations()),
            "{one:#?}"
        );
        let status = node.client.pod_status(&pod.id).await?;
        ensure!(
            status.metadata.as_ref() == Some(&metadata) && status.state() == state,
            "{status:#?}"
        );
        if state == PodSandboxState::SandboxReady {
            let ip = status.network.as_ref().map(|network| network.ip.as_str());
            ensure!(ip == Some(pod.ip.as_str()), "{status:#?}");
        }
    }
    Ok(())
}

async fn containers_are_as_recorded(node: &TestNode, made: &Made) -> Result<()> {
    let listed = node.client.list_containers().await?;
    ensure!(listed.len() == made.all.len(), "{listed:#?}");
    for expected in &made.all {
        let container = &expected.container;
        let one = listed.iter().find(|one| one.id == container.id);
        let one = one.with_context(|| format!("`{}` is listed: {listed:#?}", container.name))?;
        ensure!(
            one.pod_sandbox_id == expected.pod.id
                && one.state() == expected.state
                && one.created_at == CREATED.1
                && one.image_id == made.frame.image_id
                && one.image_ref.ends_with(&made.frame.digest)
                && one.labels == texts(&documents::container_labels(container))
                && one.annotations == texts(&documents::container_annotations()),
            "{one:#?}"
        );
        let status = node.client.container_status(&container.id).await?;
        let log = made.frame.log(&expected.pod, container);
        let mounts: Vec<_> = status
            .mounts
            .iter()
            .map(|mount| (mount.container_path.as_str(), mount.host_path.as_str()))
            .collect();
        let data = made.frame.base.join("data").display().to_string();
        ensure!(
            status.state() == expected.state
                && status.exit_code == expected.code
                && status.reason == expected.reason
                && status.log_path == log.display().to_string()
                && mounts == [("/data", data.as_str())],
            "{status:#?}"
        );
        let created = expected.state == ContainerState::ContainerCreated;
        let finished = match container.name {
            // By conmon, just now.
            "ending" => status.finished_at > FINISHED.1,
            _ if expected.state == ContainerState::ContainerExited => {
                status.finished_at == FINISHED.1
            }
            _ => status.finished_at == 0,
        };
        let started = if created { 0 } else { STARTED.1 };
        ensure!(status.started_at == started && finished, "{status:#?}");
    }
    Ok(())
}

/// Exec, the log and its rotation, statistics and attach.
async fn usable(node: &TestNode, made: &Made) -> Result<()> {
    let client = &node.client;
    for name in ["running", "input", "terminal"] {
        let script = "hostname; echo $COLOUR >&2; echo $0 > /data/seen; exit 6";
        let done = client
            .exec(made.id(name)?, &["sh", "-c", script, name], 30)
            .await?;
        let host = if name == "running" {
            "web\n"
        } else {
            "shared\n"
        };
        ensure!(
            done.stdout == host.as_bytes() && done.stderr == b"blue\n" && done.exit_code == 6,
            "{name}: {done:?}"
        );
        let seen = std::fs::read_to_string(made.frame.base.join("data/seen"))?;
        ensure!(seen.trim() == name, "{seen}");
    }
    let running = made.id("running")?;
    let log = client.container_status(running).await?.log_path;
    let log = std::path::Path::new(&log);
    std::fs::rename(log, log.with_extension("old"))?;
    let request = v1::ReopenContainerLogRequest {
        container_id: running.to_owned(),
    };
    client.runtime.clone().reopen_container_log(request).await?;
    eventually("the log goes on", async || {
        ensure!(std::fs::metadata(log)?.len() > 0);
        Ok(())
    })
    .await?;
    let stats = client
        .container_stats(running)
        .await?
        .context("statistics")?;
    let memory = stats.memory.and_then(|memory| memory.working_set_bytes);
    ensure!(memory.is_some_and(|bytes| bytes.value > 0), "{memory:?}");
    // It types a line and reads it back.
    drop(greet(node, made.id("input")?, crate::streaming::NEWEST[0]).await?);
    let request = v1::UpdateContainerResourcesRequest {
        container_id: running.to_owned(),
        linux: Some(v1::LinuxContainerResources {
            cpu_shares: 204,
            ..Default::default()
        }),
        ..Default::default()
    };
    client
        .runtime
        .clone()
        .update_container_resources(request)
        .await?;
    Ok(())
}

/// Start of what was never started, stop with the signal and without.
async fn ends(node: &TestNode, made: &Made) -> Result<()> {
    let client = &node.client;
    let created = made.id("created")?;
    client.start(created).await?;
    ensure!(node.exited(created).await?.exit_code == 4);
    let running = made.id("running")?;
    client.stop(running, 30).await?;
    let status = client.container_status(running).await?;
    ensure!(
        status.exit_code == 0 && status.reason == "Completed",
        "{status:#?}"
    );
    let terminal = made.id("terminal")?;
    client.stop(terminal, 0).await?;
    let status = client.container_status(terminal).await?;
    ensure!(
        status.exit_code == 137 && status.reason == "Error",
        "{status:#?}"
    );
    client.remove(terminal).await?;
    ensure!(client.container_status(terminal).await.is_err());
    Ok(())
}
