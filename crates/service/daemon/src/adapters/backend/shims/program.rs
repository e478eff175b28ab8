//! Running a shim's program: to start, and to clean up after it.

use std::{
    io::Write as _,
    os::fd::AsFd as _,
    path::Path,
    sync::{Arc, PoisonError},
    time::Duration,
};

use base64::Engine as _;

use crioxide_cgroups::Driver;
use crioxide_engine::ports::{PortResult, RecordDirs};
use crioxide_monitor_client::{MonitorCgroup, MonitorError, Program};
use crioxide_names::{ContainerId, PodId};
use crioxide_node_records::annotations::keys;
use crioxide_shim_client::{
    Action, Bootstrap, Invocation, TaskExit, messages::Mount, wants_parameters,
};
use serde_json::json;

use super::{
    super::{
        bundle,
        exec::{Output, pipe_pair},
        inspect, process_id,
    },
    Inner, NAMESPACE, SIGKILL, ShimHandler,
    link::Link,
};
use crate::{blocking, pod_cgroup};

/// How long a shim's clean-up may take.
const CLEAN_UP: Duration = Duration::from_secs(30);
/// How long what a shim printed may take to arrive after it ended: what stays of it may hold the pipes.
const DRAIN: Duration = Duration::from_millis(200);
/// Most bytes of what a shim prints.
const MOST_OUTPUT: usize = 64 << 10;
/// Annotation of a container with the name that its image was asked for by.
const ASKED_IMAGE: &str = "io.kubernetes.cri-o.SomeNameOfTheImage";

/// What a shim's program is run for.
struct Run {
    action: Action,
    /// Where it is born.
    cgroup: Option<MonitorCgroup>,
    patience: Duration,
}

impl Inner {
    /// The shim of a new container: one of its own, or the pod's. It is the shim that decides.
    pub(super) async fn link(
        &self,
        handler: &ShimHandler,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
    ) -> PortResult<Arc<Link>> {
        let path = self.shim_cgroup(handler, pod, id);
        if let Some(path) = &path {
            let (run, path) = (dirs.run.clone(), path.clone());
            blocking::run(move || pod_cgroup::note_conmon(&run, &path)).await?;
        }
        let cgroup = path.map(|path| MonitorCgroup {
            path,
            systemd: self.driver == Driver::Systemd,
            existing: false,
        });
        let run = Run {
            action: Action::Start,
            cgroup,
            patience: handler.create_timeout,
        };
        let output = self.run_shim(handler, id, &dirs.run, run).await?;
        let link = self.tasks.link(Bootstrap::parse(&output)?)?;
        link.save(&dirs.run)?;
        Ok(link)
    }

    /// Has the shim's program take away what a shim that is gone left of a container, killing what still runs.
    pub(super) async fn clean_up_after(
        &self,
        handler: &ShimHandler,
        id: &ContainerId,
        bundle: &Path,
    ) -> PortResult<TaskExit> {
        // containerd's bundles are named by their container, and its shims look for one beside the directory they run in.
        let named = bundle.with_file_name(id.as_str());
        let _ = std::fs::remove_file(&named);
        std::os::unix::fs::symlink(bundle, &named)?;
        let run = Run {
            action: Action::Delete,
            cgroup: None,
            patience: CLEAN_UP,
        };
        let output = self.run_shim(handler, id, bundle, run).await;
        let _ = std::fs::remove_file(&named);
        Ok(TaskExit::from_delete(&output?)?)
    }

    pub(super) fn shim_cgroup(
        &self,
        handler: &ShimHandler,
        pod: &PodId,
        id: &ContainerId,
    ) -> Option<String> {
        let place = self.processes.homes.of(pod);
        let parent = place
            .as_ref()
            .map_or("", |place| place.home.cgroup_parent.as_str());
        // The pod's own id is its monitor's name.
        let name = format!("{id}-shim");
        pod_cgroup::monitor_path(&handler.monitor_cgroup, self.driver, parent, &name)
    }

    /// Runs the program in the bundle and returns what it printed.
    async fn run_shim(
        &self,
        handler: &ShimHandler,
        id: &ContainerId,
        bundle: &Path,
        run: Run,
    ) -> PortResult<Vec<u8>> {
        let (known, no_parameters) = (self.takes_parameters(&handler.path), Vec::new());
        let parameters = match run.action {
            Action::Start => self
                .invocation(handler, id, bundle)
                .parameters(&self.event_socket),
            Action::Delete => Vec::new(),
        };
        let input = if known { &parameters } else { &no_parameters };
        let mut ended = self.run_once(handler, id, bundle, (&run, input)).await?;
        // Those from before would take the parameters for options, and refuse them.
        if !known && !parameters.is_empty() && wants_parameters(&ended.said) {
            self.note_that_it_takes_parameters(&handler.path);
            ended = self
                .run_once(handler, id, bundle, (&run, &parameters))
                .await?;
        }
        if ended.code == 0 {
            return Ok(ended.stdout);
        }
        let (shim, code) = (handler.path.display(), ended.code);
        Err(format!("shim {shim} ended with code {code}: {}", ended.said).into())
    }

    fn invocation<'a>(
        &'a self,
        handler: &ShimHandler,
        id: &'a ContainerId,
        bundle: &'a Path,
    ) -> Invocation<'a> {
        Invocation {
            namespace: NAMESPACE,
            id: id.as_str(),
            bundle,
            publisher: &self.publisher,
            debug: handler.debug,
        }
    }

    async fn run_once(
        &self,
        handler: &ShimHandler,
        id: &ContainerId,
        bundle: &Path,
        (run, input): (&Run, &[u8]),
    ) -> PortResult<Ended> {
        let program = Program {
            path: handler.path.clone(),
            args: self.invocation(handler, id, bundle).arguments(run.action),
            env: environment(handler, &self.event_socket),
            directory: bundle.to_owned(),
            cgroup: run.cgroup.clone(),
            stdio: true,
        };
        let (stdin_end, mut stdin) = std::io::pipe()?;
        // A few hundred bytes, which a pipe takes at once.
        stdin.write_all(input)?;
        drop(stdin);
        let (stdout, stdout_end) = pipe_pair()?;
        let (stderr, stderr_end) = pipe_pair()?;
        let mut output = Output::new(stdout, stderr, MOST_OUTPUT);
        let spawner = self.processes.monitors.spawner();
        let ends = [stdin_end.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()];
        let code = tokio::select! {
            code = spawner.run(program, &ends, run.patience) => code,
            never = output.collect() => match never {},
        };
        drop((stdout_end, stderr_end));
        let _ = tokio::time::timeout(DRAIN, output.drain()).await;
        let (stdout, stderr) = output.into_parts();
        let shim = handler.path.display();
        let code = code.map_err(|error| match error {
            MonitorError::Silent { timeout, .. } => {
                let seconds = timeout.as_secs();
                format!("shim {shim} did not end within {seconds} s, and was killed")
            }
            other => format!("cannot run shim {shim}: {}", crioxide_engine::chain(&other)),
        })?;
        let said = match code {
            0 => String::new(),
            _ => {
                let said = [&*stderr, &*stdout].concat();
                String::from_utf8_lossy(&said).trim().to_owned()
            }
        };
        Ok(Ended { code, stdout, said })
    }

    fn takes_parameters(&self, shim: &Path) -> bool {
        let known = self.by_parameters.lock();
        known.unwrap_or_else(PoisonError::into_inner).contains(shim)
    }

    fn note_that_it_takes_parameters(&self, shim: &Path) {
        let known = self.by_parameters.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        known.insert(shim.to_owned());
    }
}

/// How a shim's program ended.
struct Ended {
    code: i32,
    stdout: Vec<u8>,
    /// What it said of its failure.
    said: String,
}

/// The whole environment: ours, over it the handler's, and where events go.
fn environment(handler: &ShimHandler, event_socket: &Path) -> Vec<(String, String)> {
    let mut env: std::collections::BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    for (key, value) in handler.env.iter().filter_map(|item| item.split_once('=')) {
        env.insert(key.to_owned(), value.to_owned());
    }
    for (key, value) in [
        ("NAMESPACE", NAMESPACE),
        ("GRPC_ADDRESS", ""),
        ("TTRPC_ADDRESS", &*event_socket.to_string_lossy()),
        ("MAX_SHIM_VERSION", "3"),
    ] {
        env.insert(key.to_owned(), value.to_owned());
    }
    // Ours alone.
    for key in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC"] {
        env.remove(key);
    }
    env.into_iter().collect()
}

/// Kills the processes that run in a bundle: shims stay where they were started.
pub(super) fn end_processes_in(bundle: &Path) -> std::io::Result<()> {
    let processes = std::fs::read_dir("/proc")?;
    for process in processes.filter_map(Result::ok) {
        let pid = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let place = std::fs::read_link(process.path().join("cwd"));
        if let (Some(pid), Ok(place)) = (pid, place)
            && place == bundle
        {
            tracing::info!("Ending process {pid}, which runs in {}", bundle.display());
            // Not being there any more is as good.
            let _ = inspect::signal(&process_id(pid), SIGKILL);
        }
    }
    Ok(())
}

/// What makes a guest pull the container's image by itself, as kata's agent reads it.
pub(super) fn guest_pull(bundle: &Path) -> PortResult<Mount> {
    let config = bundle::config(bundle)?.ok_or("the container has no config.json")?;
    let annotations = config.get("annotations").cloned().unwrap_or_default();
    let image = [ASKED_IMAGE, keys::IMAGE_NAME].iter().find_map(|key| {
        annotations
            .get(key)?
            .as_str()
            .filter(|name| !name.is_empty())
    });
    let volume = json!({
        "volume_type": "image_guest_pull",
        "source": image.unwrap_or_default(),
        "fs_type": "overlay_fs",
        "image_pull": {"metadata": annotations},
    });
    Ok(Mount {
        // Nothing is mounted by this name: it is where kata's shim looks for the option.
        kind: "fuse.nydus-overlayfs".to_owned(),
        options: vec![format!(
            "io.katacontainers.volume={}",
            base64::engine::general_purpose::STANDARD.encode(volume.to_string())
        )],
        ..Mount::default()
    })
}
