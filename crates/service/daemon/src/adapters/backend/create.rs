//! What a pod's monitor is asked for to make a container.

use crioxide_cgroups::Driver;
use crioxide_engine::ports::{ContainerProcess, CreateProcess, PortResult};
use crioxide_monitor_client::{
    ContainerLog, CreateContainer, Created, KeepStdio, Monitor, MonitorError, StdinMode, StdioMode,
};

use super::unattended::Watcher;
use super::{HandlerRuntime, Processes, process_id};

impl Processes {
    /// What the pod's monitor keeps of a container.
    pub(super) fn kept(&self, request: &CreateProcess, sync_log: bool) -> KeepStdio {
        KeepStdio {
            id: request.id.to_string(),
            bundle: request.dirs.run.clone(),
            stdio: if request.terminal {
                StdioMode::Terminal
            } else {
                StdioMode::Pipes
            },
            stdin: match (request.stdin, request.stdin_once) {
                (false, _) => StdinMode::Closed,
                (true, false) => StdinMode::Open,
                (true, true) => StdinMode::Once,
            },
            log: ContainerLog {
                path: request.log_path.clone(),
                size_max: self.settings.log_size_max,
                sync: sync_log,
                journal: self.settings.journal.then(|| request.name.clone()),
            },
            exit_dir: self.settings.exits_dir.clone(),
            persist_dir: request.dirs.persistent.clone(),
            attach_socket_dir: self.settings.attach_dir.clone(),
            cgroup: Some(request.cgroups_path.clone()).filter(|path| !path.is_empty()),
            systemd_cgroup: self.settings.driver == Driver::Systemd,
        }
    }

    /// What whoever makes the container has to know.
    pub(super) fn order(
        &self,
        handler: &HandlerRuntime,
        request: &CreateProcess,
    ) -> CreateContainer {
        let kept = self.kept(request, handler.sync_log);
        CreateContainer {
            id: kept.id,
            bundle: kept.bundle,
            runtime: handler.command.clone(),
            stdio: kept.stdio,
            stdin: kept.stdin,
            log: kept.log,
            exit_dir: kept.exit_dir,
            persist_dir: kept.persist_dir,
            attach_socket_dir: kept.attach_socket_dir,
            cgroup: kept.cgroup,
            no_pivot: self.settings.no_pivot,
            timeout_ms: handler.create_timeout_ms,
        }
    }

    pub(super) async fn create_by_monitor(
        &self,
        request: &CreateProcess,
        order: CreateContainer,
    ) -> PortResult<ContainerProcess> {
        let mut monitor = self.monitor_of(&request.pod).await?;
        let mut made = monitor.create(order.clone()).await;
        let unsent = made.as_ref().is_err_and(MonitorError::is_unsent);
        if let Some(successor) = self.successor(&request.pod, &monitor, unsent).await? {
            made = successor.create(order).await;
            monitor = successor;
        }
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                // As CRI-O: a container that never was leaves no log.
                let _ = std::fs::remove_file(&request.log_path);
                return Err(error.into());
            }
        };
        Ok(self.made(request, &monitor, made))
    }

    /// Follows a container that a monitor made.
    pub(super) fn made(
        &self,
        request: &CreateProcess,
        monitor: &Monitor,
        made: Created,
    ) -> ContainerProcess {
        for warning in made.warnings {
            tracing::warn!("Container {}: {warning}", request.id);
        }
        let init = process_id(made.pid);
        self.watch(&request.id, &request.dirs, init.clone(), Watcher::Monitor);
        ContainerProcess {
            init,
            monitor: process_id(monitor.pid()),
        }
    }
}
