//! Pods in use, with what has to be true of them.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1::{self, ContainerState, PodSandboxState};
use crioxide_test_support::TestNode;
use crioxide_test_support::waiting::eventually;

use super::Random;
use super::kills::{Aim, Victim, members, parent};

/// Exit codes: killed, and never started or killed while nobody was there to see it.
const KILLED: i32 = 137;
const UNKNOWN: i32 = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Exec,
    /// Stop and remove a container, make and start another of the same name.
    Replace,
    /// The same for the whole pod.
    Renew,
}

impl Operation {
    pub(super) const ALL: [Self; 3] = [Self::Exec, Self::Replace, Self::Renew];
}

#[derive(Debug, Clone)]
struct Slot {
    handler: &'static str,
    name: String,
    /// The pod's uid ends with it.
    generation: u64,
    /// Running containers: name, id and process.
    containers: Vec<Running>,
}

#[derive(Debug, Clone)]
struct Running {
    id: String,
    pid: i32,
}

#[derive(Debug)]
pub(super) struct Pool {
    image: String,
    slots: Vec<Slot>,
    /// Containers that lost their monitor: how they end may be seen by nobody.
    unwatched: HashSet<String>,
}

/// An operation that can be repeated.
#[derive(Debug)]
pub(super) struct Plan {
    image: String,
    slot: Slot,
    operation: Operation,
}

impl Pool {
    pub(super) fn new(image: &str, handlers: &[&'static str]) -> Self {
        let slots = handlers.iter().map(|handler| Slot {
            handler,
            name: format!(
                "pool-{}",
                if handler.is_empty() {
                    "builtin"
                } else {
                    handler
                }
            ),
            generation: 0,
            containers: Vec::new(),
        });
        Self {
            image: image.to_owned(),
            slots: slots.collect(),
            unwatched: HashSet::new(),
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn plan(&mut self, place: usize, operation: Operation) -> Plan {
        let slot = &mut self.slots[place];
        if matches!(operation, Operation::Renew) {
            slot.generation += 1;
        }
        Plan {
            image: self.image.clone(),
            slot: slot.clone(),
            operation,
        }
    }

    pub(super) fn aim(
        &self,
        node: &TestNode,
        place: usize,
        victim: Victim,
        random: &mut Random,
    ) -> Result<Aim> {
        let slot = &self.slots[place];
        let one = random.of(&slot.containers).context("a container")?.clone();
        // The init process, systemd's or the test's own are no monitors.
        let monitor_of = |pid| {
            let comm = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
            let monitor: i32 = parent(pid).filter(|pid| *pid > 1)?;
            let name = comm(monitor).ok()?;
            let ours = ["conmon", "crioxide-mon"].contains(&name.trim());
            ours.then_some(monitor)
        };
        let aim = match victim {
            Victim::Daemon => Aim::Process {
                victim,
                pid: i32::try_from(node.daemon_pid()?)?,
                container: String::new(),
            },
            Victim::Container => Aim::Process {
                victim,
                pid: one.pid,
                container: one.id,
            },
            Victim::Monitor => monitor_of(one.pid).map_or(Aim::Nobody, |pid| Aim::Process {
                victim,
                pid,
                container: one.id,
            }),
            Victim::Runtime => Aim::Runtime {
                base: node.place().base().display().to_string(),
                monitors: slot
                    .containers
                    .iter()
                    .filter_map(|one| monitor_of(one.pid))
                    .collect(),
                spare: self
                    .slots
                    .iter()
                    .flat_map(|slot| &slot.containers)
                    .map(|one| one.pid)
                    .collect(),
            },
        };
        Ok(aim)
    }

    /// Containers that neither the operation nor the kill is meant for.
    pub(super) fn bystanders(&self, place: usize, operation: Operation, aim: &Aim) -> Vec<String> {
        let mut safe = Vec::new();
        for (number, slot) in self.slots.iter().enumerate() {
            let touched = match operation {
                _ if number != place => 0,
                Operation::Exec => 0,
                Operation::Replace => 1,
                Operation::Renew => slot.containers.len(),
            };
            safe.extend(
                slot.containers
                    .iter()
                    .skip(touched)
                    .map(|one| one.id.clone()),
            );
        }
        if let Aim::Process {
            victim: Victim::Container,
            container,
            ..
        } = aim
        {
            safe.retain(|id| id != container);
        }
        safe
    }

    /// Makes what is missing, and looks up who is who.
    pub(super) async fn fill(&mut self, node: &TestNode) -> Result<()> {
        for slot in &mut self.slots {
            slot.containers = ensure_all(node, &self.image, slot).await?;
        }
        Ok(())
    }

    /// Whatever is listed is in the state that the kernel shows, with a code that can be.
    pub(super) async fn is_true(
        &mut self,
        node: &TestNode,
        killed: Option<(usize, &Aim)>,
    ) -> Result<()> {
        let client = &node.client;
        let pods = client.list_pods().await?;
        if let Some((
            place,
            Aim::Process {
                victim: Victim::Monitor,
                ..
            },
        )) = killed
        {
            for container in client.list_containers().await? {
                let of = pods.iter().find(|pod| pod.id == container.pod_sandbox_id);
                let name = of
                    .and_then(|pod| pod.metadata.as_ref())
                    .map(|one| one.name.as_str());
                if name == Some(self.slots[place].name.as_str()) {
                    self.unwatched.insert(container.id);
                }
            }
        }
        for container in client.list_containers().await? {
            let of = pods.iter().any(|pod| pod.id == container.pod_sandbox_id);
            ensure!(of, "a container without its pod: {container:?}");
            let watched = !self.unwatched.contains(&container.id);
            eventually("the state is the true one", async || {
                let status = client.container_status(&container.id).await?;
                let alive = !members(&container.id).is_empty();
                match status.state() {
                    ContainerState::ContainerRunning | ContainerState::ContainerCreated => {
                        ensure!(alive, "it has no process: {status:?}");
                    }
                    ContainerState::ContainerExited => {
                        ensure!(!alive, "it has processes: {status:?}");
                        let code = status.exit_code;
                        let unstarted = status.message.starts_with("failed to start container");
                        let possible = code == KILLED || code == UNKNOWN && (!watched || unstarted);
                        ensure!(possible, "it was killed: {status:?}");
                    }
                    ContainerState::ContainerUnknown => anyhow::bail!("unknown: {status:?}"),
                }
                Ok(())
            })
            .await?;
        }
        // The death of a container is reported.
        let victim = match killed {
            Some((
                _,
                Aim::Process {
                    victim: Victim::Container,
                    container,
                    ..
                },
            )) => Some(container.as_str()),
            _ => None,
        };
        if let Some(id) = victim
            && let Ok(status) = client.container_status(id).await
        {
            ensure!(
                status.state() == ContainerState::ContainerExited,
                "{status:?}"
            );
        }
        Ok(())
    }
}

impl Plan {
    pub(super) async fn run(&self, node: &TestNode) -> Result<()> {
        let client = &node.client;
        match self.operation {
            Operation::Exec => {
                let running = ensure_all(node, &self.image, &self.slot).await?;
                let one = running.first().context("a container")?;
                let done = client
                    .exec(&one.id, &["sh", "-c", "echo in; exit 4"], 30)
                    .await?;
                ensure!(done.stdout == b"in\n" && done.exit_code == 4, "{done:?}");
            }
            Operation::Replace => {
                if let Some(old) = self.slot.containers.first() {
                    client.stop(&old.id, 0).await.context("StopContainer")?;
                    client.remove(&old.id).await.context("RemoveContainer")?;
                }
                ensure_all(node, &self.image, &self.slot).await?;
            }
            Operation::Renew => {
                ensure_all(node, &self.image, &self.slot).await?;
            }
        }
        Ok(())
    }
}

/// As a kubelet does: looks at what there is, takes away what is old or dead, makes what is missing.
async fn ensure_all(node: &TestNode, image: &str, slot: &Slot) -> Result<Vec<Running>> {
    let client = &node.client;
    let uid = format!("{}-{}", slot.name, slot.generation);
    let mut pod = node.pod(&slot.name);
    pod.metadata
        .as_mut()
        .context("metadata")?
        .uid
        .clone_from(&uid);
    let mut found = None;
    for listed in client.list_pods().await? {
        let metadata = listed.metadata.clone().unwrap_or_default();
        if metadata.name != slot.name {
            continue;
        }
        if metadata.uid == uid && listed.state() == PodSandboxState::SandboxReady {
            found = Some(listed.id);
        } else {
            for container in client.list_containers().await? {
                if container.pod_sandbox_id == listed.id {
                    client
                        .stop(&container.id, 0)
                        .await
                        .context("StopContainer of an old pod")?;
                }
            }
            client
                .stop_pod(&listed.id)
                .await
                .context("StopPodSandbox")?;
            client
                .remove_pod(&listed.id)
                .await
                .context("RemovePodSandbox")?;
        }
    }
    let pod_id = match found {
        Some(id) => id,
        None => client
            .run_pod(&pod, slot.handler)
            .await
            .context("RunPodSandbox")?,
    };
    let mut running = Vec::new();
    for name in ["one", "two"] {
        let id = ensure_container(node, image, (&pod_id, &pod), name).await?;
        let pid = crate::survival::restart::container_pid(node, &id).await?;
        running.push(Running { id, pid });
    }
    Ok(running)
}

async fn ensure_container(
    node: &TestNode,
    image: &str,
    (pod_id, pod): (&str, &v1::PodSandboxConfig),
    name: &str,
) -> Result<String> {
    let client = &node.client;
    for listed in client.list_containers().await? {
        let metadata = listed.metadata.clone().unwrap_or_default();
        if listed.pod_sandbox_id != pod_id || metadata.name != name {
            continue;
        }
        match listed.state() {
            ContainerState::ContainerRunning => return Ok(listed.id),
            ContainerState::ContainerCreated if client.start(&listed.id).await.is_ok() => {
                return Ok(listed.id);
            }
            _ => {
                client
                    .stop(&listed.id, 0)
                    .await
                    .context("StopContainer of a dead one")?;
                client.remove(&listed.id).await.context("RemoveContainer")?;
            }
        }
    }
    let container = node.container(name, image, &["sleep", "100000"]);
    let id = client
        .create(pod_id, &container, pod)
        .await
        .context("CreateContainer")?;
    client.start(&id).await.context("StartContainer")?;
    Ok(id)
}
