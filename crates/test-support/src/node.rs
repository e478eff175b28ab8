//! A daemon on private directories, with a network, a cgroup and a store of its own.

mod cleanup;
mod conf;
mod place;
mod process;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use crioxide_cri_api::v1;

use crate::client::{CriClient, image_spec};
use crate::requirements;
use crate::snapshot::{HostSnapshot, Scope, mounts_below};
use crate::waiting::eventually;
pub use place::Place;
use process::Daemon;

/// What the kubelet hides of /proc and /sys where a pod does not ask for an unmasked /proc.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// How a node differs from the usual one.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// Registry hosts that are reached by plain HTTP.
    pub insecure_registries: Vec<String>,
    /// TOML that goes before everything else of `[crio.runtime]`.
    pub runtime_keys: String,
    /// TOML that goes before everything else of `[crio.api]`.
    pub api_keys: String,
    /// TOML that goes before everything else of `[crio.image]`.
    pub image_keys: String,
    /// The daemon's log level; `debug` where this is empty.
    pub log_level: String,
    /// TOML tables for the end of crio.conf.
    pub more_tables: String,
    /// The network list instead of the usual bridge.
    pub network: Option<String>,
    /// Directories of CNI plugins; the daemon's own are used where this is empty.
    pub plugin_directories: Vec<PathBuf>,
    /// The directory of images and containers instead of one of this node's own.
    pub root: Option<PathBuf>,
    /// The storage driver; `overlay` where this is empty.
    pub storage_driver: String,
    /// The default handler; `$CRIOXIDE_TEST_HANDLER`, or `builtin`, where this is empty.
    pub default_handler: String,
    /// Where results of CNI plugins are kept instead of a place of this node's own.
    pub cni_cache: Option<PathBuf>,
    /// The daemon's program instead of the one under test.
    pub program: Option<PathBuf>,
}

/// A running daemon. On drop it ends and everything it made is taken off the host.
#[derive(Debug)]
pub struct TestNode {
    place: Place,
    daemon: Option<Daemon>,
    program: PathBuf,
    netns: Option<PathBuf>,
    before: HostSnapshot,
    /// Calls to the daemon.
    pub client: CriClient,
}

impl TestNode {
    /// Starts a node and waits until it answers.
    ///
    /// # Errors
    /// When the daemon is not built or does not come up; the message holds the end of its log.
    pub async fn start(options: NodeOptions) -> Result<Self> {
        let program = match &options.program {
            Some(program) => program.clone(),
            None => requirements::daemon().map_err(anyhow::Error::msg)?,
        };
        let place = Place::claim(&options)?;
        conf::write(&place, &options)?;
        let before = HostSnapshot::take(&Scope::Node(&place));
        let client = CriClient::new(&place.socket());
        let mut node = Self {
            place,
            daemon: None,
            program,
            netns: None,
            before,
            client,
        };
        node.start_again().await?;
        Ok(node)
    }

    /// Where this node keeps its things.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The daemon's process id.
    ///
    /// # Errors
    /// When it is not running.
    pub fn daemon_pid(&self) -> Result<u32> {
        Ok(self
            .daemon
            .as_ref()
            .context("the daemon is not running")?
            .pid())
    }

    /// Ends the daemon with SIGKILL.
    ///
    /// # Errors
    /// When it was not running.
    pub async fn kill(&mut self) -> Result<()> {
        let daemon = self.daemon.take().context("the daemon is not running")?;
        daemon.kill().await
    }

    /// Ends the daemon with SIGTERM and waits for it.
    ///
    /// # Errors
    /// When it was not running, does not end in time or ends with a failure.
    pub async fn stop(&mut self) -> Result<()> {
        let daemon = self.daemon.take().context("the daemon is not running")?;
        daemon.terminate().await
    }

    /// Another program takes the node over from the next start on.
    pub fn switch_to(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// Starts the daemon again after [`Self::kill`] or [`Self::stop`].
    ///
    /// # Errors
    /// When it does not come up; the message holds the end of its log.
    pub async fn start_again(&mut self) -> Result<()> {
        let mut daemon = Daemon::start(&self.program, &self.place, self.netns.as_deref())?;
        let client = &self.client;
        let answers = eventually("the daemon answers", async || Ok(client.version().await?));
        let came_up = tokio::select! {
            came_up = answers => came_up.map(drop),
            reason = daemon.ended() => Err(reason),
        };
        self.daemon = Some(daemon);
        came_up.with_context(|| format!("log of the daemon:\n{}", self.log_tail(30)))
    }

    /// From its next start on the daemon runs in the network namespace at `path`, which takes the
    /// place of the host's: rules may be deleted there, and addresses chosen freely.
    pub fn move_to_network(&mut self, path: &Path) {
        self.netns = Some(path.to_owned());
    }

    /// The daemon's log so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.place.log()).unwrap_or_default()
    }

    /// The last lines of the daemon's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// A pod with its own network in this node's cgroup, as the kubelet would ask for one.
    #[must_use]
    pub fn pod(&self, name: &str) -> v1::PodSandboxConfig {
        let stamp = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |age| age.as_nanos());
        let log_directory = self.place.logs().join(name);
        v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.to_owned(),
                uid: format!("{name}-{stamp}"),
                namespace: "test".to_owned(),
                attempt: 0,
            }),
            hostname: name.to_owned(),
            log_directory: log_directory.display().to_string(),
            dns_config: Some(v1::DnsConfig {
                servers: vec!["192.0.2.53".to_owned()],
                searches: vec!["test.example".to_owned()],
                options: vec!["ndots:5".to_owned()],
            }),
            labels: [("app".to_owned(), name.to_owned())].into(),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: self.place.cgroup_parent(),
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(pod_namespaces(v1::NamespaceMode::Container)),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// A container that runs `command` and logs to `<name>.log` of its pod.
    #[must_use]
    pub fn container(&self, name: &str, image: &str, command: &[&str]) -> v1::ContainerConfig {
        v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: name.to_owned(),
                attempt: 0,
            }),
            image: Some(image_spec(image)),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            log_path: format!("{name}.log"),
            linux: Some(v1::LinuxContainerConfig {
                resources: Some(v1::LinuxContainerResources {
                    memory_limit_in_bytes: 256 << 20,
                    cpu_shares: 512,
                    ..Default::default()
                }),
                security_context: Some(v1::LinuxContainerSecurityContext {
                    namespace_options: Some(pod_namespaces(v1::NamespaceMode::Container)),
                    masked_paths: MASKED.map(str::to_owned).into(),
                    readonly_paths: READ_ONLY.map(str::to_owned).into(),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }
    }

    /// Creates and starts a pod with one container; the answer is both ids.
    ///
    /// # Errors
    /// With the daemon's status and the call that failed.
    pub async fn run(
        &self,
        pod: &v1::PodSandboxConfig,
        container: &v1::ContainerConfig,
        handler: &str,
    ) -> Result<(String, String)> {
        let pod_id = self
            .client
            .run_pod(pod, handler)
            .await
            .context("RunPodSandbox")?;
        let id = self
            .client
            .create(&pod_id, container, pod)
            .await
            .context("CreateContainer")?;
        self.client.start(&id).await.context("StartContainer")?;
        Ok((pod_id, id))
    }

    /// Waits until the container has ended and returns its status.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn exited(&self, container: &str) -> Result<v1::ContainerStatus> {
        eventually("the container ends", async || {
            let status = self.client.container_status(container).await?;
            ensure!(
                status.state() == v1::ContainerState::ContainerExited,
                "its state is {:?}",
                status.state()
            );
            Ok(status)
        })
        .await
    }

    /// What the container wrote, from its log in the CRI format: stream to text.
    ///
    /// # Errors
    /// When the log cannot be read or a line is not in the format.
    pub fn container_log(
        &self,
        pod: &v1::PodSandboxConfig,
        name: &str,
    ) -> Result<BTreeMap<String, String>> {
        let path = Path::new(&pod.log_directory).join(format!("{name}.log"));
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("read `{}`", path.display()))?;
        parse_log(&text)
    }

    /// Removes every pod.
    ///
    /// # Errors
    /// With the daemon's status.
    pub async fn remove_pods(&self) -> Result<()> {
        // Programs of the tests do not heed SIGTERM: a pod's stop would wait out its grace period.
        for container in self.client.list_containers().await? {
            self.client
                .stop(&container.id, 0)
                .await
                .context("StopContainer")?;
        }
        for pod in self.client.list_pods().await? {
            self.client
                .stop_pod(&pod.id)
                .await
                .context("StopPodSandbox")?;
            self.client
                .remove_pod(&pod.id)
                .await
                .context("RemovePodSandbox")?;
        }
        Ok(())
    }

    /// Removes every pod and image, stops the daemon and fails if anything of this node is still on the host.
    ///
    /// # Errors
    /// When a call fails or something is left; the message lists it.
    pub async fn finish(mut self) -> Result<()> {
        self.remove_pods().await?;
        let pods = self.client.list_pods().await?;
        ensure!(pods.is_empty(), "pods left after removing all: {pods:?}");
        for image in self.client.list_images().await? {
            self.client
                .remove_image(&image.id)
                .await
                .with_context(|| format!("RemoveImage of {}", image.id))?;
        }
        self.nothing_left(&self.before).await?;
        self.stop().await?;
        let mounts = mounts_below(self.place.base());
        ensure!(
            mounts.is_empty(),
            "mounts left by the daemon's end: {mounts:?}"
        );
        Ok(())
    }

    /// Waits until this node holds nothing that it did not hold in `before`. The kernel takes network namespaces and
    /// what is in them apart in the background, so this is a wait.
    ///
    /// # Errors
    /// With the list of what is left.
    pub async fn nothing_left(&self, before: &HostSnapshot) -> Result<()> {
        eventually("nothing is left on the host", async || {
            let left = self.snapshot().since(before);
            ensure!(left.is_empty(), "left: {}", left.join("\n  "));
            Ok(())
        })
        .await
        .with_context(|| format!("log of the daemon:\n{}", self.log_tail(30)))
    }

    /// What this node has on the host now.
    #[must_use]
    pub fn snapshot(&self) -> HostSnapshot {
        HostSnapshot::take(&Scope::Node(&self.place))
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the daemon:\n{}", self.log_tail(40));
        }
        drop(self.daemon.take());
        self.place.remains().take_away();
    }
}

/// Network and IPC of the pod's own, with process ids as given.
#[must_use]
pub fn pod_namespaces(pid: v1::NamespaceMode) -> v1::NamespaceOption {
    v1::NamespaceOption {
        network: v1::NamespaceMode::Pod.into(),
        pid: pid.into(),
        ipc: v1::NamespaceMode::Pod.into(),
        ..Default::default()
    }
}

fn parse_log(text: &str) -> Result<BTreeMap<String, String>> {
    let mut streams = BTreeMap::<String, String>::new();
    for line in text.lines() {
        let mut fields = line.splitn(4, ' ');
        let (Some(time), Some(stream), Some(tag), Some(content)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            anyhow::bail!("not a line of a CRI log: `{line}`");
        };
        ensure!(
            time.contains('T') && matches!(stream, "stdout" | "stderr"),
            "not a line of a CRI log: `{line}`"
        );
        let written = streams.entry(stream.to_owned()).or_default();
        written.push_str(content);
        if tag == "F" {
            written.push('\n');
        }
    }
    Ok(streams)
}

#[cfg(test)]
mod tests {
    use super::parse_log;

    #[test]
    fn joins_partial_lines_by_stream() {
        let log = "2026-01-01T00:00:00.000000001Z stdout P one \n2026-01-01T00:00:00.1Z stderr F oh\n2026-01-01T00:00:00.2Z stdout F line\n";
        let streams = parse_log(log).expect("a log");
        assert_eq!(streams["stdout"], "one line\n");
        assert_eq!(streams["stderr"], "oh\n");
        assert!(parse_log("hello").is_err());
    }
}
