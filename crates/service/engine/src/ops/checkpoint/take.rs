//! CheckpointContainer.
//!
//! The container is frozen while its processes and the changes of its root are written down, so that they fit each other;
//! it runs on while the archive is made of them. Whatever fails, it is thawed and nothing is left but the archive.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crioxide_node_records::{container_state::ContainerStatus, go_time};
use oci_spec::runtime::Spec;

use crate::{
    Engine, EngineError,
    container::Container,
    error::Context as _,
    operation,
    ops::exits::now_nanoseconds,
    ports::{CheckpointContent, CheckpointProcess, CheckpointSupport, handler_and_program},
};

/// How long the processes may take to be written down where the request does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(240);

/// The longest time that a request can ask for: the container may stand still for as long.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// The subdirectory of the archive with the images of the processes.
const IMAGES: &str = "checkpoint";

impl Engine {
    /// Writes the state of a running container into an archive at `location`; it runs on.
    ///
    /// # Errors
    /// That it is not available; `NotFound`; that the container does not run; or the step that failed.
    pub async fn checkpoint_container(
        &self,
        id: &str,
        location: &str,
        timeout_seconds: i64,
    ) -> Result<(), EngineError> {
        if self.inner.settings.checkpoints == CheckpointSupport::None {
            return Err(EngineError::refused(
                "checkpoint/restore support not available",
            ));
        }
        let container = self.find_container(id)?;
        let location = PathBuf::from(location);
        if !location.is_absolute() || location.file_name().is_none() {
            return Err(EngineError::refused(format!(
                "checkpoint location {:?} is not the absolute path of a file",
                location.display()
            )));
        }
        let timeout = match u64::try_from(timeout_seconds) {
            Ok(0) | Err(_) => DEFAULT_TIMEOUT,
            Ok(seconds) => Duration::from_secs(seconds).min(LONGEST_TIMEOUT),
        };
        let engine = self.clone();
        let work = operation::spawn(async move {
            let _gate = container.gate.lock().await;
            engine.checkpoint(&container, &location, timeout).await
        });
        work.await.unwrap_or_else(|_| {
            Err(EngineError::refused(format!(
                "the checkpoint of container {id} was abandoned"
            )))
        })
    }

    async fn checkpoint(
        &self,
        container: &Container,
        location: &Path,
        timeout: Duration,
    ) -> Result<(), EngineError> {
        if container.status() != ContainerStatus::Running {
            return Err(EngineError::refused(format!(
                "container {} is not running",
                container.id
            )));
        }
        tracing::info!("Checkpointing container: {}", container.id);
        let ports = &self.inner.ports;
        let failed = || format!("failed to checkpoint container {}", container.id);
        let begun = ports.checkpoints.begin(&container.dirs).await;
        let taken = match begun.doing(failed) {
            Ok(work) => match self.freeze_and_collect(container, &work, timeout).await {
                Ok(()) => ports
                    .checkpoints
                    .export(&work, location)
                    .await
                    .doing(failed),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let ended = ports.checkpoints.end(&container.dirs).await;
        taken?;
        ended.doing(failed)?;
        container.change(|state| {
            state.checkpointed_time = go_time::from_unix_nanoseconds(now_nanoseconds());
        });
        self.save_state(container).await;
        tracing::info!("Checkpointed container: {}", container.id);
        Ok(())
    }

    /// What has to fit each other, taken while nothing of the container moves.
    async fn freeze_and_collect(
        &self,
        container: &Container,
        work: &Path,
        timeout: Duration,
    ) -> Result<(), EngineError> {
        let backend = &self.inner.ports.backend;
        let (handler, id) = (&container.handler, &container.id);
        let frozen = backend.set_paused(handler, id, true).await;
        let frozen = frozen.doing(|| {
            format!(
                "failed to pause container {:?} before checkpointing",
                id.as_str()
            )
        });
        let collected = match frozen {
            Ok(()) => self.collect(container, work, timeout).await,
            Err(error) => Err(error),
        };
        // Also what was frozen in part.
        let thawed = backend.set_paused(handler, id, false).await;
        collected?;
        // One that ended meanwhile is not there to be thawed.
        if container.is_alive() {
            thawed.doing(|| format!("failed to unpause container {id}"))?;
        }
        Ok(())
    }

    async fn collect(
        &self,
        container: &Container,
        work: &Path,
        timeout: Duration,
    ) -> Result<(), EngineError> {
        let ports = &self.inner.ports;
        let failed = || format!("failed to checkpoint container {}", container.id);
        // What criu puts into the container's processes writes to the log with their rights.
        let linux = container.spec.linux().as_ref();
        let label = linux.and_then(|linux| linux.mount_label().as_deref());
        if let Some(label) = label.filter(|label| !label.is_empty()) {
            let labelled = ports.host.relabel(work, label).await;
            labelled.doing(failed)?;
        }
        let request = CheckpointProcess {
            images: work.join(IMAGES),
            work: work.to_owned(),
            timeout,
        };
        let written = ports
            .backend
            .checkpoint(&container.handler, &container.id, request)
            .await;
        written.doing(failed)?;
        let content = content(container)?;
        let collected = ports
            .checkpoints
            .collect(&container.id, work, content)
            .await;
        collected.doing(|| {
            format!(
                "failed to write file system changes of container {}",
                container.id
            )
        })
    }

    /// Lets a container run again whose checkpoint was cut off by the daemon's end.
    pub(in crate::ops) async fn end_interrupted_checkpoint(&self, container: &Container) {
        let ports = &self.inner.ports;
        tracing::warn!(
            "The checkpoint of container {} was cut off: it runs on",
            container.id
        );
        // It is frozen, or not yet, or no more.
        let thawed = ports
            .backend
            .set_paused(&container.handler, &container.id, false)
            .await;
        if let Err(error) = thawed {
            let reason = crate::chain(error.as_ref());
            tracing::debug!("Container {} was not thawed: {reason}", container.id);
        }
        if let Err(error) = ports.checkpoints.end(&container.dirs).await {
            let reason = crate::chain(error.as_ref());
            tracing::warn!("Container {}: {reason}", container.id);
        }
    }
}

fn content(container: &Container) -> Result<CheckpointContent, EngineError> {
    let info = &container.info;
    // As other tools read it.
    let dump = serde_json::json!({
        "id": container.id.as_str(),
        "name": info.name,
        "rootfsImage": info.image,
        "rootfsImageRef": info.image_ref,
        "rootfsImageName": info.image_name,
        "runtime": handler_and_program(&container.handler).0,
        "createdTime": go_time::format(info.created),
        "checkpointedTime": go_time::format(go_time::from_unix_nanoseconds(now_nanoseconds())),
        "restoredTime": go_time::ZERO_TEXT,
        "restored": false,
    });
    let encoded = |error: serde_json::Error| EngineError::failed("write a checkpoint", &error);
    let mounts = container.spec.mounts().iter().flatten();
    Ok(CheckpointContent {
        config: serde_json::to_vec_pretty(&dump).map_err(encoded)?,
        spec: serde_json::to_vec_pretty(&*container.spec).map_err(encoded)?,
        bind_mounts: bind_mounts(&container.spec),
        mounted: mounts.map(|mount| mount.destination().clone()).collect(),
        root: info.mount_point.clone().into(),
        log_path: info.log_path.clone().into(),
    })
}

/// Sources and destinations of the bind mounts, but for what every container has.
fn bind_mounts(spec: &Spec) -> Vec<(PathBuf, PathBuf)> {
    const EVERYWHERE: &[&str] = &[
        "/dev",
        "/dev/shm",
        "/proc",
        "/run",
        "/run/.containerenv",
        "/run/secrets",
        "/sys",
    ];
    let mounts = spec.mounts().iter().flatten();
    mounts
        .filter(|mount| mount.typ().as_deref() == Some("bind"))
        .filter(|mount| {
            !EVERYWHERE
                .iter()
                .any(|place| mount.destination() == Path::new(place))
        })
        .filter_map(|mount| Some((mount.source().clone()?, mount.destination().clone())))
        .collect()
}
