//! Containers of a former daemon, or of a monitor that has died: found again by what is in their bundles.

use std::{path::Path, sync::Arc, time::Duration};

use crioxide_engine::ports::{
    CreateProcess, ExitReport, MonitorReport, PortResult, ProcessId, RecordDirs,
};
use crioxide_files::{AtomicOptions, Sync, atomic_write, read_limited};
use crioxide_monitor_client::{FailureKind, KeepStdio, MonitorError};
use crioxide_names::{ContainerId, PodId};
use crioxide_node_records::annotations::keys;
use crioxide_shim_client::{TaskExit, TaskState};

use super::{
    super::{bundle, inspect},
    Inner, exec,
    link::Link,
    log,
    tasks::Task,
};

/// File in a bundle with what its monitor was asked to keep.
const KEPT: &str = "kept-stdio.json";
/// Most of it that is read, bytes.
const LONGEST: u64 = 64 << 10;

/// How long a monitor may take to read what a container wrote before its end.
const DRAIN: Duration = Duration::from_secs(1);
const DRAIN_PAUSE: Duration = Duration::from_millis(20);

/// Writes down what is asked of the monitor, for the one that may have to take its place.
pub(super) fn note_kept(keep: &KeepStdio) -> PortResult<()> {
    let options = AtomicOptions {
        mode: 0o600,
        sync: Sync::None,
    };
    let text = serde_json::to_vec(keep)?;
    Ok(atomic_write(keep.bundle.join(KEPT), &text, options)?)
}

impl Inner {
    /// What became of a container while nobody looked.
    pub(super) async fn inspect(
        self: &Arc<Self>,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
        init: &ProcessId,
    ) -> PortResult<MonitorReport> {
        let kept = self.processes.monitors.report(pod, id).await;
        if let Some(exited @ MonitorReport::Exited(_)) = kept {
            return Ok(exited);
        }
        let Some(task) = self.found(pod, id, dirs)? else {
            return Ok(MonitorReport::Lost);
        };
        task.set_init(init.clone());
        let state = match task.link.shim().await {
            Ok(shim) => shim.state(id.as_str()).await,
            Err(error) => Err(error),
        };
        match state {
            Ok(TaskState::Alive) => {}
            Ok(TaskState::Ended(exit)) => return Ok(self.ended(&task, exit).await),
            Err(error) if error.is_not_found() => return Ok(MonitorReport::Lost),
            Err(error) if error.is_gone() => {
                let exit = self.bury(&task).await;
                return Ok(MonitorReport::Exited(report(&task, exit)));
            }
            // It hangs, which may pass.
            Err(error) => tracing::warn!("Failed to look after container {id}: {error}"),
        }
        if kept.is_none()
            && let Err(error) = self.keep_again(&task).await
        {
            let reason = crioxide_engine::chain(error.as_ref());
            tracing::warn!("The output of container {id} is not logged any more: {reason}");
        }
        self.follow(&task);
        Ok(MonitorReport::Alive { monitored: true })
    }

    /// A container that is known, or one of a former daemon.
    pub(super) fn found(
        &self,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
    ) -> PortResult<Option<Arc<Task>>> {
        if let Some(task) = self.tasks.of(id) {
            return Ok(Some(task));
        }
        let Some(bootstrap) = Link::read(&dirs.run)? else {
            return Ok(None);
        };
        let link = self.tasks.link(bootstrap)?;
        link.recall_process(&dirs.run);
        log::reopen(&dirs.run, pod);
        let mut task = Task::new(pod.clone(), id.clone(), dirs.clone(), link);
        task.is_adopted = true;
        let task = self.tasks.insert_or_get(task);
        tokio::spawn(exec::end_leftovers(task.clone()));
        Ok(Some(task))
    }

    /// The monitor records an end that nobody was there to tell it of.
    async fn ended(&self, task: &Task, exit: TaskExit) -> MonitorReport {
        let finished_at = exit.finished_at.unwrap_or_else(inspect::now);
        let told = self.tell_monitor(&task.pod, &task.id, exit.exit_code, finished_at);
        if told.await.is_ok() {
            let begin = tokio::time::Instant::now();
            while begin.elapsed() < DRAIN {
                let kept = self.processes.monitors.report(&task.pod, &task.id).await;
                if let Some(exited @ MonitorReport::Exited(_)) = kept {
                    return exited;
                }
                tokio::time::sleep(DRAIN_PAUSE).await;
            }
        }
        MonitorReport::Exited(report(task, exit))
    }

    /// Has a new monitor go on with the input and output of a container, whose shim holds the FIFOs open meanwhile.
    async fn keep_again(&self, task: &Task) -> PortResult<()> {
        let keep = match read_kept(&task.dirs.run)? {
            Some(keep) => keep,
            None => self.kept_by_cri_o(task).await?,
        };
        let monitor = self.processes.monitor_of(&task.pod).await?;
        match monitor.keep_stdio(keep).await {
            Ok(()) => {}
            // Kept before the container was made, for a daemon that died meanwhile.
            Err(error) if exists(&error) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(monitor.made(task.id.as_str(), task.init().pid).await?)
    }

    /// What CRI-O, which is its own monitor for shims, kept of a container until it ended. Its FIFOs get a second name, in
    /// the bundle.
    async fn kept_by_cri_o(&self, task: &Task) -> PortResult<KeepStdio> {
        let stdio = task.shim().await?.stdio(task.id.as_str()).await?;
        let config = bundle::config(&task.dirs.run)?.unwrap_or_default();
        let annotation = |key: &str| {
            let value = config.get("annotations")?.get(key)?.as_str()?;
            Some(value.to_owned())
        };
        let place = self.processes.homes.of(&task.pod);
        let place = place.ok_or_else(|| format!("pod {} is gone", task.pod))?;
        let handler = self.handler(&place.home.handler)?;
        let request = CreateProcess {
            pod: task.pod.clone(),
            id: task.id.clone(),
            name: String::new(),
            handler: place.home.handler.clone(),
            dirs: task.dirs.clone(),
            cgroups_path: bundle::cgroups_path(&task.dirs.run)?.unwrap_or_default(),
            log_path: annotation(keys::LOG_PATH)
                .ok_or("its config.json names no log")?
                .into(),
            terminal: stdio.terminal,
            stdin: !stdio.stdin.is_empty(),
            stdin_once: annotation(keys::STDIN_ONCE).as_deref() == Some("true"),
        };
        let keep = self.processes.kept(&request, handler.sync_log);
        let ours = [
            (stdio.stdin, keep.stdin_fifo()),
            (stdio.stdout, Some(keep.stdout_fifo())),
            (stdio.stderr, keep.stderr_fifo()),
        ];
        for (theirs, ours) in ours {
            if let Some(ours) = ours {
                link_fifo(Path::new(&theirs), &ours)?;
            }
        }
        note_kept(&keep)?;
        Ok(keep)
    }
}

/// Gives a FIFO a second name, unless that is there.
fn link_fifo(theirs: &Path, ours: &Path) -> PortResult<()> {
    match std::fs::hard_link(theirs, ours) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(format!("cannot link {} into the bundle: {error}", theirs.display()).into())
        }
        _ => Ok(()),
    }
}

/// What the monitor was asked to keep; none of a container that CRI-O had made.
fn read_kept(bundle: &Path) -> PortResult<Option<KeepStdio>> {
    match read_limited(bundle.join(KEPT), LONGEST) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn exists(error: &MonitorError) -> bool {
    error.failure().map(|failure| failure.kind) == Some(FailureKind::Exists)
}

pub(super) fn report(task: &Task, exit: TaskExit) -> ExitReport {
    ExitReport {
        id: task.id.clone(),
        exit_code: Some(exit.exit_code),
        oom_killed: task.dirs.run.join("oom").exists(),
        finished_at: exit.finished_at.unwrap_or_else(inspect::now),
    }
}
