//! Following a container that none of our monitors watches: its process and, if it has one, its conmon.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crioxide_engine::ports::{ExitReport, MonitorReport, ProcessId, RecordDirs};
use crioxide_monitor_client::conmon;
use crioxide_names::ContainerId;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{BackendEvent, inspect};

/// How long a conmon that lives may take to write the exit file after the process ended: it reads what is left in the
/// pipes first.
const EXIT_FILE_PATIENCE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How long a monitor may take to reap a process before it is held to be stuck and the kernel's own word is taken.
const REAP_PATIENCE: Duration = Duration::from_secs(3);

/// Who else follows the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watcher {
    /// A monitor of ours that lives; it is only stood in for when it does not do its work.
    Monitor,
    /// A conmon, or nobody.
    Other,
}

/// A container that is followed from here.
#[derive(Debug)]
pub(super) struct Unattended {
    /// The container.
    pub(super) id: ContainerId,
    /// Where its exit code will be.
    pub(super) exit_file: PathBuf,
    /// Its directories.
    pub(super) dirs: RecordDirs,
    /// Its first process.
    pub(super) init: ProcessId,
    /// Who else follows it.
    pub(super) watcher: Watcher,
}

/// The containers that are followed, with who else follows each: a monitor may die meanwhile.
#[derive(Debug)]
pub(super) struct Followed {
    watchers: Arc<Mutex<HashMap<ContainerId, Watcher>>>,
    events: mpsc::UnboundedSender<BackendEvent>,
}

impl Followed {
    /// Ends are told to `events`.
    pub(super) fn new(events: mpsc::UnboundedSender<BackendEvent>) -> Self {
        Self {
            watchers: Arc::default(),
            events,
        }
    }

    /// Follows a container; of one that is followed already, only who else follows it is news.
    pub(super) fn watch(&self, mut container: Unattended) {
        let known = locked(&self.watchers).insert(container.id.clone(), container.watcher);
        if known.is_some() {
            return;
        }
        let (events, watchers) = (self.events.clone(), self.watchers.clone());
        tokio::spawn(async move {
            let exit = loop {
                let exit = container.ended().await;
                let mut watchers = locked(&watchers);
                let watcher = watchers.get(&container.id).copied();
                match watcher {
                    // Left to a monitor that has died.
                    Some(now) if exit.is_none() && now != container.watcher => {
                        container.watcher = now;
                    }
                    _ => {
                        watchers.remove(&container.id);
                        break exit;
                    }
                }
            };
            if let Some(exit) = exit {
                // The receiver lives as long as the daemon.
                let _ = events.send(BackendEvent::Exited(exit));
            }
        });
    }
}

fn locked<T>(all: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-changed by a panic while it is held.
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Unattended {
    /// Waits for its end. The code is unknown when nobody wrote it down. `None` when its monitor tells of it.
    async fn ended(&self) -> Option<ExitReport> {
        self.process_ended().await;
        let noticed = inspect::now();
        let begin = Instant::now();
        let mut pause = FIRST_PAUSE;
        let exit_code = loop {
            if self.watcher == Watcher::Monitor && inspect::unreaped(&self.init).is_none() {
                return None;
            }
            // Asked first: what a conmon that has ended wrote is there by now.
            let watched = conmon::find(&self.dirs.run, self.id.as_str()).is_some();
            let found = inspect::look(&self.id, &self.exit_file, &self.dirs, &self.init);
            match found {
                Ok(MonitorReport::Exited(exit)) => return Some(exit),
                Ok(_) => {}
                Err(error) => tracing::warn!("Failed to look after {}: {error}", self.id),
            }
            let unreaped = inspect::unreaped(&self.init);
            // Reaped between the two looks: its monitor knows the code and is about to tell.
            if self.watcher == Watcher::Monitor && unreaped.is_none() {
                return None;
            }
            if unreaped.is_some() && begin.elapsed() >= REAP_PATIENCE {
                tracing::warn!(
                    "Container {} has ended, but its monitor does not notice; is the monitor stopped?",
                    self.id
                );
                break unreaped;
            }
            if unreaped.is_none() && !watched || begin.elapsed() >= EXIT_FILE_PATIENCE {
                break unreaped;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        Some(ExitReport {
            id: self.id.clone(),
            exit_code,
            oom_killed: self.dirs.run.join("oom").exists(),
            finished_at: noticed,
        })
    }

    async fn process_ended(&self) {
        let ended = inspect::ended(&self.init);
        tokio::pin!(ended);
        if let Some(conmon) = conmon::find(&self.dirs.run, self.id.as_str()) {
            tokio::select! {
                result = &mut ended => return self.complain(result),
                _ = conmon.ended() => {}
            }
            // It usually ends with its container; the kernel may tell us of it first.
            if inspect::start_time(self.init.pid).as_deref() == Some(&*self.init.start_time) {
                tracing::warn!(
                    "Conmon for container {} is stopped, although the container is running",
                    self.id
                );
            }
        }
        self.complain(ended.await);
    }

    fn complain(&self, watched: std::io::Result<()>) {
        if let Err(error) = watched {
            tracing::warn!(
                "Failed to watch process {} of container {}: {error}",
                self.init.pid,
                self.id
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process of ours as the first of a container, without an exit file.
    fn container(child: &std::process::Child, directory: &std::path::Path) -> Unattended {
        let pid = i32::try_from(child.id()).unwrap();
        Unattended {
            id: ContainerId::generate(),
            exit_file: directory.join("exit"),
            dirs: RecordDirs {
                run: directory.into(),
                persistent: directory.into(),
            },
            init: super::super::process_id(pid),
            watcher: Watcher::Monitor,
        }
    }

    #[tokio::test]
    async fn an_end_after_that_of_the_monitor_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        let container = container(&child, dir.path());
        let id = container.id.clone();
        let orphan = Unattended {
            id: id.clone(),
            exit_file: container.exit_file.clone(),
            dirs: container.dirs.clone(),
            init: container.init.clone(),
            watcher: Watcher::Other,
        };
        let (sender, mut events) = mpsc::unbounded_channel();
        let followed = Followed::new(sender);
        followed.watch(container);
        followed.watch(orphan);
        // Reaped at once, as by the node's init: nothing is left to ask.
        child.kill().unwrap();
        child.wait().unwrap();
        match events.recv().await {
            Some(BackendEvent::Exited(exit)) => assert_eq!((exit.id, exit.exit_code), (id, None)),
            other => panic!("{other:?}"),
        }
        assert!(locked(&followed.watchers).is_empty());
    }
}
