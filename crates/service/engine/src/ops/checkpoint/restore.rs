//! The start of a container that is restored from a checkpoint, and what else becomes of one.

use std::sync::Arc;

use crate::{
    Engine, EngineError,
    container::Container,
    error::Context as _,
    ops::{create_container::has_process, exits::now_nanoseconds},
    ports::{CreateProcess, ExitReport, RestoreProcess},
};

/// Exit code of a container that was stopped before it had a process, as if it had been killed.
const NEVER_RAN: i32 = 128 + 9;

impl Engine {
    /// Restores the processes of a container that counts as running already. That is written down first: if the daemon
    /// ends meanwhile, nobody knows how far it got.
    pub(in crate::ops) async fn restore_processes(
        &self,
        container: &Container,
    ) -> Result<(), EngineError> {
        self.save_state(container).await;
        let ports = &self.inner.ports;
        let info = &container.info;
        let request = RestoreProcess {
            container: CreateProcess {
                pod: container.pod.clone(),
                id: container.id.clone(),
                name: info.name.clone(),
                handler: container.handler.clone(),
                dirs: container.dirs.clone(),
                cgroups_path: container.cgroups_path(),
                log_path: info.log_path.clone().into(),
                terminal: info.tty,
                stdin: info.stdin,
                stdin_once: info.stdin_once,
            },
            files: ports.checkpoints.imported(&container.dirs),
        };
        let restored = ports.backend.restore(&request).await;
        // It is of no use a second time: the root has changed since.
        let forgotten = ports.checkpoints.forget(&container.dirs).await;
        let process = restored.doing(|| format!("failed to restore container {}", container.id))?;
        if let Err(error) = forgotten {
            let reason = crate::chain(error.as_ref());
            tracing::warn!("Container {}: {reason}", container.id);
        }
        container.change(|state| {
            let ended = state.pid;
            *state = has_process(std::mem::take(state), &process);
            // One that has ended already has none any more.
            if state.exit_code.is_some() {
                state.pid = ended;
            }
        });
        Ok(())
    }

    /// Ends a container that was to be restored and has no process yet. `true` if it was one.
    pub(in crate::ops) async fn stop_unrestored(&self, container: &Arc<Container>) -> bool {
        let (restored, pid) = {
            let state = container.state.borrow();
            (state.restored, state.init_pid)
        };
        if !restored || pid != 0 {
            return false;
        }
        // A start under way comes to its end first.
        let _gate = container.gate.lock().await;
        if !container.awaits_restore() {
            return false;
        }
        let report = ExitReport {
            id: container.id.clone(),
            exit_code: Some(NEVER_RAN),
            oom_killed: false,
            finished_at: now_nanoseconds(),
        };
        self.container_exited(report).await;
        true
    }

    /// Looks after a container whose restore the daemon's end came before, or cut off. `true` if it was one.
    pub(in crate::ops) async fn end_interrupted_restore(
        &self,
        container: &Container,
        imported: bool,
    ) -> bool {
        let (restored, pid) = {
            let state = container.state.borrow();
            (state.restored, state.init_pid)
        };
        if !restored || pid != 0 || !container.is_alive() {
            return false;
        }
        if imported && container.awaits_restore() {
            return true;
        }
        let ports = &self.inner.ports;
        tracing::warn!("The restore of container {} was cut off", container.id);
        let (id, dirs) = (&container.id, &container.dirs);
        let deleted = ports
            .backend
            .delete(&container.pod, &container.handler, id, dirs)
            .await;
        let forgotten = ports.checkpoints.forget(dirs).await;
        for error in [deleted, forgotten].into_iter().filter_map(Result::err) {
            let reason = crate::chain(error.as_ref());
            tracing::warn!("Container {id}: {reason}");
        }
        let report = ExitReport {
            id: id.clone(),
            exit_code: None,
            oom_killed: false,
            finished_at: now_nanoseconds(),
        };
        container.change(|state| {
            crate::ops::exits::apply_exit(state, &report);
            state.error = "its restore was cut off by the end of the daemon".to_owned();
        });
        self.save_state(container).await;
        true
    }
}
