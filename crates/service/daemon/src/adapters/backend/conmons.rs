//! Containers that a real conmon watches, one each.

use std::time::Duration;

use crioxide_cgroups::Driver;
use crioxide_engine::ports::{ContainerProcess, CreateProcess, PortResult, RecordDirs};
use crioxide_monitor_client::{
    CreateContainer, MonitorCgroup,
    conmon::{self, ConmonProgram},
};
use crioxide_names::{ContainerId, PodId};
use crioxide_oci_runtime::DeleteMode;

use super::{HandlerRuntime, Processes, Watcher, process_id};
use crate::{blocking, pod_cgroup};

/// How long a conmon may take to end after its container is gone, before it is ended.
const END_PATIENCE: Duration = Duration::from_secs(5);

impl Processes {
    /// Makes a container by a conmon of its own and follows it.
    pub(super) async fn create_by_conmon(
        &self,
        handler: &HandlerRuntime,
        program: &ConmonProgram,
        request: &CreateProcess,
        order: CreateContainer,
    ) -> PortResult<ContainerProcess> {
        let path = self.conmon_cgroup(handler, &request.pod, &request.id);
        if let Some(path) = &path {
            let (run, path) = (request.dirs.run.clone(), path.clone());
            blocking::run(move || pod_cgroup::note_conmon(&run, &path)).await?;
        }
        let cgroup = path.map(|path| MonitorCgroup {
            path,
            systemd: self.settings.driver == Driver::Systemd,
            existing: false,
        });
        let spawner = self.monitors.spawner();
        match program.create(spawner, &request.name, &order, cgroup).await {
            Ok(made) => {
                let init = process_id(made.pid);
                self.watch(&request.id, &request.dirs, init.clone(), Watcher::Other);
                Ok(ContainerProcess {
                    init,
                    monitor: process_id(made.conmon.pid),
                })
            }
            Err(error) => {
                // As CRI-O: a container that never was leaves no log, and nothing in the runtime.
                let _ = std::fs::remove_file(&request.log_path);
                let id = request.id.to_string();
                let cleaned = self
                    .with_runtime(&request.handler, move |runtime| {
                        runtime.delete(&id, DeleteMode::Force)
                    })
                    .await;
                if let Err(error) = cleaned {
                    tracing::warn!("Unable to delete container {}: {error}", request.id);
                }
                let ended = self
                    .end_conmon(&request.pod, &request.handler, &request.id, &request.dirs)
                    .await;
                let removed = self.remove_monitor_files(&request.id, &request.dirs).await;
                for error in [ended, removed].into_iter().filter_map(Result::err) {
                    tracing::warn!("Container {}: {error}", request.id);
                }
                Err(error.into())
            }
        }
    }

    /// Sees a deleted container's conmon off, and removes its cgroup.
    pub(super) async fn end_conmon(
        &self,
        pod: &PodId,
        handler: &str,
        id: &ContainerId,
        dirs: &RecordDirs,
    ) -> PortResult<()> {
        // It writes the exit files, which are removed next.
        if let Some(running) = conmon::find(&dirs.run, id.as_str())
            && tokio::time::timeout(END_PATIENCE, running.ended())
                .await
                .is_err()
            && let Some(stuck) = conmon::find(&dirs.run, id.as_str())
        {
            tracing::warn!(
                "Conmon {} of container {id} does not end with its container; ending it",
                stuck.pid
            );
            stuck.kill();
            let _ = tokio::time::timeout(END_PATIENCE, stuck.ended()).await;
        }
        let made_by_cri_o = match self.handler(handler) {
            Ok(handler) => self.conmon_cgroup(&handler, pod, id),
            Err(_) => None,
        };
        let (driver, run) = (self.settings.driver, dirs.run.clone());
        blocking::run(move || pod_cgroup::release_conmon(driver, &run, made_by_cri_o)).await
    }

    fn conmon_cgroup(
        &self,
        handler: &HandlerRuntime,
        pod: &PodId,
        id: &ContainerId,
    ) -> Option<String> {
        handler.conmon.as_ref()?;
        let place = self.homes.of(pod);
        let parent = place
            .as_ref()
            .map_or("", |place| place.home.cgroup_parent.as_str());
        pod_cgroup::monitor_path(
            &handler.monitor_cgroup,
            self.settings.driver,
            parent,
            id.as_str(),
        )
    }
}
