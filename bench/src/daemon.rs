//! The daemon's side: real pods by CRI.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::client::{Answer, CriClient};
use crioxide_test_support::image::{self, Format, ImageBuilder};
use crioxide_test_support::{NodeOptions, ScriptedRegistry, TestNode};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::floor::Hierarchies;
use crate::logs;
use crate::options::Options;
use crate::processes;
use crate::pull::{Image, REPOSITORY, TAG};
use crate::report::Report;

/// A daemon on private directories with busybox pulled.
#[derive(Debug)]
pub(crate) struct Node {
    node: TestNode,
    registry: ScriptedRegistry,
    image: String,
    handler: String,
    /// Holds the images of both sides.
    directory: tempfile::TempDir,
    /// The pods' cgroup parent, where the daemon would not make it: on a node the kubelet does.
    parent: Option<Hierarchies>,
}

/// How long the parts of a pod's life took.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) up: Duration,
    pub(crate) exec: Duration,
    pub(crate) down: Duration,
    /// Each call by its name, in order.
    pub(crate) calls: Vec<(&'static str, Duration)>,
}

/// The ids of a pod and its container.
pub(crate) type Ids = (String, String);

impl Node {
    pub(crate) async fn start(options: &Options, registry: ScriptedRegistry) -> Result<Self> {
        let busybox = ImageBuilder::busybox(Format::Oci)?.build()?;
        let image = registry.add("bench/busybox", "1", &busybox);
        let directory = tempfile::tempdir_in(&options.directory)
            .with_context(|| format!("make a directory in `{}`", options.directory.display()))?;
        let node = TestNode::start(NodeOptions {
            root: Some(directory.path().join("root")),
            insecure_registries: vec![registry.host()],
            // As in production: a log line per call costs what it costs there, no more.
            log_level: "info".to_owned(),
            ..Default::default()
        })
        .await?;
        node.client.pull(&image).await.context("PullImage")?;
        let place = node.place();
        let parent = match place.cgroup_driver().as_str() {
            "systemd" => None,
            _ => Some(Hierarchies::find(
                place.cgroup_parent().trim_start_matches('/'),
            )?),
        };
        Ok(Self {
            parent,
            node,
            registry,
            image,
            handler: options.handler.clone(),
            directory,
        })
    }

    pub(crate) async fn finish(self) -> Result<()> {
        self.node.remove_pods().await?;
        let removed = self.parent.map_or(Ok(()), |parent| parent.remove_top());
        self.node.finish().await?;
        removed
    }

    pub(crate) fn registry_host(&self) -> String {
        self.registry.host()
    }

    /// Where images are unpacked.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The largest resident set that the daemon had.
    pub(crate) fn peak_memory_mib(&self) -> Result<f64> {
        processes::peak_memory_mib(self.node.daemon_pid()?)
    }

    /// What logs cost.
    pub(crate) async fn logs(&self, mebibytes: usize, report: &mut Report) -> Result<()> {
        let directory = self.directory.path();
        logs::measure(&self.node, &self.image, directory, mebibytes, report).await
    }

    /// One pod up, one exec, and down.
    pub(crate) async fn pod(&self, name: &str) -> Result<Life> {
        let mut calls = Vec::new();
        let started = Instant::now();
        let (pod, container) = self.up(name, &mut calls).await?;
        let up = started.elapsed();
        let exec = self.exec(&container).await?;
        let started = Instant::now();
        self.down(&pod, &container, &mut calls).await?;
        Ok(Life {
            up,
            exec,
            down: started.elapsed(),
            calls,
        })
    }

    /// A command in a running container.
    pub(crate) async fn exec(&self, container: &str) -> Result<Duration> {
        let client = &self.node.client;
        let started = Instant::now();
        let done = client
            .exec(container, &["true"], 30)
            .await
            .context("ExecSync")?;
        let took = started.elapsed();
        ensure!(done.exit_code == 0, "exec: {done:?}");
        Ok(took)
    }

    /// A command in every pod's container, as a kubelet probes, several at a time; all must answer.
    pub(crate) async fn probes(&self, pods: &[Ids], at_once: usize) -> Result<Vec<Duration>> {
        stream::iter(pods)
            .map(async |(_, container)| self.exec(container).await)
            .buffer_unordered(at_once)
            .try_collect()
            .await
    }

    /// Fails unless all the pods are ready and their containers run.
    pub(crate) async fn all_are_up(&self, pods: &[Ids]) -> Result<()> {
        let client = &self.node.client;
        let ready = client.list_pods().await.context("ListPodSandbox")?;
        let running = client.list_containers().await.context("ListContainers")?;
        for (pod, container) in pods {
            ensure!(
                ready.iter().any(|listed| {
                    listed.id == *pod && listed.state() == v1::PodSandboxState::SandboxReady
                }),
                "pod {pod} is not ready"
            );
            ensure!(
                running.iter().any(|listed| {
                    listed.id == *container
                        && listed.state() == v1::ContainerState::ContainerRunning
                }),
                "container {container} does not run"
            );
        }
        Ok(())
    }

    /// Pods up, several at a time.
    pub(crate) async fn all_up(
        &self,
        names: impl Iterator<Item = String>,
        at_once: usize,
    ) -> Result<Vec<Ids>> {
        stream::iter(names)
            .map(async |name| self.up(&name, &mut Vec::new()).await)
            .buffer_unordered(at_once)
            .try_collect()
            .await
    }

    /// Pods down, several at a time.
    pub(crate) async fn all_down(&self, pods: &[Ids], at_once: usize) -> Result<()> {
        stream::iter(pods)
            .map(async |(pod, container)| self.down(pod, container, &mut Vec::new()).await)
            .buffer_unordered(at_once)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    /// Pods down with whatever containers they have, several at a time.
    pub(crate) async fn all_down_with_containers(
        &self,
        pods: &[Ids],
        at_once: usize,
    ) -> Result<()> {
        let client = &self.node.client;
        let containers = client.list_containers().await.context("ListContainers")?;
        stream::iter(&containers)
            .map(async |container| client.stop(&container.id, 0).await)
            .buffer_unordered(at_once)
            .try_collect::<Vec<()>>()
            .await
            .context("StopContainer")?;
        stream::iter(pods)
            .map(async |(pod, _)| {
                client.stop_pod(pod).await.context("StopPodSandbox")?;
                client.remove_pod(pod).await.context("RemovePodSandbox")
            })
            .buffer_unordered(at_once)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    /// Many pods up, then all down; the time of each half.
    pub(crate) async fn batch(&self, pods: usize, at_once: usize) -> Result<(Duration, Duration)> {
        let started = Instant::now();
        let names = (0..pods).map(|number| format!("many{number}"));
        let all = self.all_up(names, at_once).await?;
        let up = started.elapsed();
        let started = Instant::now();
        self.all_down(&all, at_once).await?;
        Ok((up, started.elapsed()))
    }

    /// One more container in a running pod.
    pub(crate) async fn another(&self, pod: &str, name: &str) -> Result<String> {
        let client = &self.node.client;
        let config = self.node.container(name, &self.image, &["sleep", "3600"]);
        let id = client
            .create(pod, &config, &self.node.pod(name))
            .await
            .context("CreateContainer")?;
        client.start(&id).await.context("StartContainer")?;
        Ok(id)
    }

    /// Calls to the daemon.
    pub(crate) fn client(&self) -> &CriClient {
        &self.node.client
    }

    /// Where the daemon answers.
    pub(crate) fn socket(&self) -> PathBuf {
        self.node.place().socket()
    }

    /// The daemon's process id.
    pub(crate) fn pid(&self) -> Result<u32> {
        self.node.daemon_pid()
    }

    /// Ends the daemon, starts it again and waits for its first answer.
    pub(crate) async fn restart(&mut self) -> Result<Duration> {
        self.node.stop().await?;
        let started = Instant::now();
        self.node.start_again().await?;
        Ok(started.elapsed())
    }

    pub(crate) fn serve(&self, image: &Image) {
        self.registry.add(REPOSITORY, TAG, &image.image);
    }

    /// Offers an image under a name of its own; returns it.
    pub(crate) fn offer(&self, repository: &str, image: &image::Image) -> String {
        self.registry.add(repository, TAG, image)
    }

    /// A pull of an image of which nothing is there.
    pub(crate) async fn pull(&self) -> Result<Duration> {
        let name = format!("{}/{REPOSITORY}:{TAG}", self.registry.host());
        self.node
            .client
            .remove_image(&name)
            .await
            .context("RemoveImage")?;
        let started = Instant::now();
        self.node.client.pull(&name).await.context("PullImage")?;
        Ok(started.elapsed())
    }

    /// A pod in the host's network that has stopped, with a container that has ended.
    pub(crate) async fn ended(&self, name: &str) -> Result<()> {
        let mut pod = self.node.pod(name);
        let linux = pod.linux.get_or_insert_default();
        let security = linux.security_context.get_or_insert_default();
        let options = security.namespace_options.get_or_insert_default();
        options.network = v1::NamespaceMode::Node.into();
        let mut container = self.node.container("main", &self.image, &["true"]);
        let linux = container.linux.get_or_insert_default();
        let security = linux.security_context.get_or_insert_default();
        let options = security.namespace_options.get_or_insert_default();
        options.network = v1::NamespaceMode::Node.into();
        let (id, _) = self.node.run(&pod, &container, &self.handler).await?;
        self.node
            .client
            .stop_pod(&id)
            .await
            .context("StopPodSandbox")
    }

    pub(crate) async fn up(
        &self,
        name: &str,
        calls: &mut Vec<(&'static str, Duration)>,
    ) -> Result<Ids> {
        let client = &self.node.client;
        let pod = self.node.pod(name);
        let config = self.node.container("main", &self.image, &["sleep", "3600"]);
        let pod_id = timed(calls, "RunPodSandbox", client.run_pod(&pod, &self.handler)).await?;
        let create = client.create(&pod_id, &config, &pod);
        let container = timed(calls, "CreateContainer", create).await?;
        timed(calls, "StartContainer", client.start(&container)).await?;
        Ok((pod_id, container))
    }

    pub(crate) async fn down(
        &self,
        pod: &str,
        container: &str,
        calls: &mut Vec<(&'static str, Duration)>,
    ) -> Result<()> {
        let client = &self.node.client;
        timed(calls, "StopContainer", client.stop(container, 0)).await?;
        timed(calls, "RemoveContainer", client.remove(container)).await?;
        timed(calls, "StopPodSandbox", client.stop_pod(pod)).await?;
        timed(calls, "RemovePodSandbox", client.remove_pod(pod)).await
    }
}

async fn timed<T>(
    calls: &mut Vec<(&'static str, Duration)>,
    name: &'static str,
    call: impl Future<Output = Answer<T>>,
) -> Result<T> {
    let started = Instant::now();
    let answer = call.await.context(name)?;
    calls.push((name, started.elapsed()));
    Ok(answer)
}
