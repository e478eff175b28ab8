//! Giving back what a shim and the monitor hold for a container.

use std::{sync::Arc, time::Duration};

use crioxide_engine::ports::{PortResult, RecordDirs};
use crioxide_names::{ContainerId, PodId};
use crioxide_shim_client::{Shim, ShimError};
use tokio::time::Instant;

use super::{
    super::{FORGET_PAUSE, bundle, inspect, leftovers},
    Inner, SIGKILL, ShimHandler, program,
    tasks::Task,
};
use crate::{blocking, pod_cgroup};

/// How long a container may take to end after it was killed.
const END: Duration = Duration::from_secs(20);

/// How long a shim may still be making a container that it does not know yet.
const SETTLING: Duration = Duration::from_secs(2);
const SETTLE_PAUSE: Duration = Duration::from_millis(50);

/// Exit code of what was killed.
const KILLED: i32 = 137;

impl Inner {
    /// Deletes a container, killing what still runs.
    pub(super) async fn delete(
        self: &Arc<Self>,
        pod: &PodId,
        handler: &str,
        id: &ContainerId,
        dirs: &RecordDirs,
    ) -> PortResult<()> {
        let handler = self.handler(handler)?;
        let task = self.found(pod, id, dirs).unwrap_or_else(|error| {
            // What it says cannot be used: its program cleans up.
            tracing::warn!("Container {id}: {error}");
            None
        });
        let ended = match &task {
            Some(task) => self.end_task(task).await,
            None => self.end_unknown(handler, id, dirs).await,
        };
        if let Some(task) = &task {
            if !self.tasks.shares_link(task) {
                task.link.farewell().await;
            }
            if ended.is_ok() {
                self.tasks.remove(id);
            }
        }
        let forgotten = self.forget_kept(pod, id, dirs).await;
        let (driver, run) = (self.driver, dirs.run.clone());
        let path = self.shim_cgroup(handler, pod, id);
        let released = blocking::run(move || {
            // A runtime that was killed over it has left it.
            if let Some(cgroup) = bundle::cgroups_path(&run)? {
                pod_cgroup::release_container(driver, &cgroup)?;
            }
            pod_cgroup::release_conmon(driver, &run, path)
        });
        ended.and(forgotten).and(released.await)
    }

    /// Ends a container by its shim, or by the shim's program if that is gone.
    async fn end_task(&self, task: &Task) -> PortResult<()> {
        match delete_task(task).await? {
            Deleted::Yes => Ok(()),
            Deleted::Unreachable => self.clean_up(task).await.map(drop),
        }
    }

    /// Ends what there may be of a container whose shim was not started, or had not answered yet when its daemon died.
    async fn end_unknown(
        &self,
        handler: &ShimHandler,
        id: &ContainerId,
        dirs: &RecordDirs,
    ) -> PortResult<()> {
        let run = dirs.run.clone();
        blocking::run(move || program::end_processes_in(&run)).await?;
        if dirs.run.join("config.json").exists()
            && let Err(error) = self.clean_up_after(handler, id, &dirs.run).await
        {
            // There usually is nothing.
            let reason = crioxide_engine::chain(error.as_ref());
            tracing::debug!("Nothing to clean up of container {id}: {reason}");
        }
        Ok(())
    }

    /// Lets the monitor forget the container, and removes what stays of its input and output.
    async fn forget_kept(
        &self,
        pod: &PodId,
        id: &ContainerId,
        dirs: &RecordDirs,
    ) -> PortResult<()> {
        if let Ok(monitor) = self.processes.monitors.of(pod) {
            match monitor.ended(id.as_str(), KILLED, inspect::now()).await {
                Err(error) if !super::follow::is_unknown(&error) => {
                    tracing::warn!("Container {id}: {error}");
                }
                _ => {}
            }
        }
        // It reads what the container wrote to the end first.
        let mut pause = FORGET_PAUSE;
        while !self.processes.forgotten(pod, id, &mut pause).await? {}
        self.processes.remove_monitor_files(id, dirs).await?;
        let run = dirs.run.clone();
        blocking::run(move || {
            for name in ["stdin", "stdout", "stderr", "log"] {
                leftovers::remove(&run.join(name))?;
            }
            PortResult::Ok(())
        })
        .await
    }
}

enum Deleted {
    Yes,
    /// Its shim is gone.
    Unreachable,
}

async fn delete_task(task: &Task) -> PortResult<Deleted> {
    match delete_by_shim(task).await {
        Ok(()) => Ok(Deleted::Yes),
        Err(error) if error.is_gone() => Ok(Deleted::Unreachable),
        Err(error) if error.is_silent() => {
            tracing::warn!(
                "The shim of container {} hangs, so it is ended: {error}",
                task.id
            );
            match task.link.kill().await {
                true => Ok(Deleted::Unreachable),
                false => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits for a creation that a daemon began before it died: the shim knows the container when it is through.
async fn settle(shim: &Shim, id: &str) {
    let begin = Instant::now();
    while begin.elapsed() < SETTLING {
        match shim.state(id).await {
            Err(error) if error.is_not_found() => tokio::time::sleep(SETTLE_PAUSE).await,
            _ => return,
        }
    }
}

async fn delete_by_shim(task: &Task) -> Result<(), ShimError> {
    let shim = task.link.shim().await?;
    let id = task.id.as_str();
    if task.is_adopted {
        settle(&shim, id).await;
    }
    let known = |result: Result<(), ShimError>| match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    };
    match shim.delete(id, "").await {
        Ok(_) => {}
        Err(error) if error.is_not_found() => {}
        Err(error @ ShimError::Refused { .. }) => {
            tracing::debug!("Container {id} is killed before it is deleted: {error}");
            known(shim.kill(id, "", SIGKILL, true).await)?;
            let waited = tokio::time::timeout(END, shim.wait(id, "")).await;
            let method = "Wait";
            let timeout = END;
            let ended = waited.unwrap_or(Err(ShimError::Silent { method, timeout }));
            known(ended.map(drop))?;
            known(shim.delete(id, "").await.map(drop))?;
        }
        Err(error) => return Err(error),
    }
    // It ends in the middle of its answer.
    match shim.shutdown(id).await {
        Err(error) if !error.is_gone() && !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
