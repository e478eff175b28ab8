//! The daemon's side: real pods by CRI.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;
use crioxide_test_support::client::CriClient;
use crioxide_test_support::image::{Format, ImageBuilder};
use crioxide_test_support::{NodeOptions, ScriptedRegistry, TestNode};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::options::Options;
use crate::pull::{Image, REPOSITORY, TAG};

/// A daemon on private directories with busybox pulled.
#[derive(Debug)]
pub(crate) struct Node {
    node: TestNode,
    registry: ScriptedRegistry,
    image: String,
    handler: String,
    /// Holds the images of both sides.
    directory: tempfile::TempDir,
}

/// How long the parts of a pod's life took.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) up: Duration,
    pub(crate) exec: Duration,
    pub(crate) down: Duration,
}

impl Node {
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        let registry = ScriptedRegistry::start().await?;
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
        Ok(Self {
            node,
            registry,
            image,
            handler: options.handler.clone(),
            directory,
        })
    }

    pub(crate) async fn finish(self) -> Result<()> {
        self.node.finish().await
    }

    pub(crate) fn registry_host(&self) -> String {
        self.registry.host()
    }

    /// Where images are unpacked.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The largest resident set that the daemon had.
    pub(crate) fn peak_memory_kib(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.node.daemon_pid()?);
        let status = std::fs::read_to_string(&path).with_context(|| format!("read `{path}`"))?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|value| value.split_whitespace().next()?.parse().ok())
            .with_context(|| format!("no VmHWM in `{path}`"))
    }

    /// One pod up, one exec, and down.
    pub(crate) async fn pod(&self, round: usize) -> Result<Life> {
        let started = Instant::now();
        let (pod, container) = self.up(&format!("one{round}")).await?;
        let up = started.elapsed();
        let started = Instant::now();
        let done = self
            .node
            .client
            .exec(&container, &["true"], 30)
            .await
            .context("ExecSync")?;
        let exec = started.elapsed();
        ensure!(done.exit_code == 0, "exec: {done:?}");
        let started = Instant::now();
        self.down(&pod, &container).await?;
        Ok(Life {
            up,
            exec,
            down: started.elapsed(),
        })
    }

    /// Many pods up, then all down; the time of each half.
    pub(crate) async fn batch(&self, pods: usize, at_once: usize) -> Result<(Duration, Duration)> {
        let started = Instant::now();
        let all: Vec<(String, String)> = stream::iter(0..pods)
            .map(async |number| self.up(&format!("many{number}")).await)
            .buffer_unordered(at_once)
            .try_collect()
            .await?;
        let up = started.elapsed();
        let started = Instant::now();
        stream::iter(&all)
            .map(async |(pod, container)| self.down(pod, container).await)
            .buffer_unordered(at_once)
            .try_collect::<Vec<()>>()
            .await?;
        Ok((up, started.elapsed()))
    }

    pub(crate) fn serve(&self, image: &Image) {
        self.registry.add(REPOSITORY, TAG, &image.image);
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

    /// Calls that have no method here.
    pub(crate) fn client(&self) -> &CriClient {
        &self.node.client
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

    pub(crate) async fn up(&self, name: &str) -> Result<(String, String)> {
        let pod = self.node.pod(name);
        let container = self.node.container("main", &self.image, &["sleep", "3600"]);
        self.node.run(&pod, &container, &self.handler).await
    }

    pub(crate) async fn down(&self, pod: &str, container: &str) -> Result<()> {
        let client = &self.node.client;
        client.stop(container, 0).await.context("StopContainer")?;
        client.remove(container).await.context("RemoveContainer")?;
        client.stop_pod(pod).await.context("StopPodSandbox")?;
        client.remove_pod(pod).await.context("RemovePodSandbox")
    }
}
