//! Giving back what a shim and the monitor hold for a container.

use std::{sync::Arc, time::Duration};

use crioxide_engine::ports::{PortResult, RecordDirs};
use crioxide_names::{ContainerId, PodId};
use crioxide_shim_client::ShimError;

use super::{
    super::{FORGET_PAUSE, inspect, leftovers},
    Inner, SIGKILL,
    tasks::Task,
};
use crate::{blocking, pod_cgroup};

/// How long a container may take to end after it was killed.
const END: Duration = Duration::from_secs(20);

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
        let deleted = match &task {
            Some(task) => delete_task(task).await,
            // Its shim was not started, or did not answer.
            None => Ok(Deleted::Unreachable),
        };
        if matches!(deleted?, Deleted::Unreachable) && dirs.run.join("config.json").exists() {
            self.clean_up_after(handler, id, &dirs.run).await?;
        }
        if let Some(task) = &task {
            if !self.tasks.shares_link(task) {
                task.link.farewell().await;
            }
            self.tasks.remove(id);
        }
        self.forget_kept(pod, id, dirs).await?;
        let (driver, run) = (self.driver, dirs.run.clone());
        let path = self.shim_cgroup(handler, pod, id);
        blocking::run(move || pod_cgroup::release_conmon(driver, &run, path)).await
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
    match end_task(task).await {
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

async fn end_task(task: &Task) -> Result<(), ShimError> {
    let shim = task.link.shim().await?;
    let id = task.id.as_str();
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
