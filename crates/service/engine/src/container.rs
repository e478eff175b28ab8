//! A container of a pod.
//!
//! ```text
//! (being made, invisible) --> Created --> Running <--> Paused
//!                                 \          |           |
//!                                  +------> Stopped <----+ --> removed
//! ```

use std::sync::Arc;

use crioxide_cri_api::v1;
use crioxide_names::{ContainerId, PodId};
use crioxide_node_records::{
    ContainerAnnotations, ContainerState, container_state::ContainerStatus,
};
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use crate::{
    events::Announced,
    ops::HeldCalls,
    ports::{ProcessId, RecordDirs},
    view::ContainerEntry,
};

/// A stop under way.
#[derive(Debug)]
pub(crate) struct StopUnderWay {
    /// When the kernel's kill follows the polite signal. Later requests can only bring it forward.
    pub(crate) deadline: watch::Sender<Instant>,
}

/// A container that exists. What is not behind a lock never changes.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    pub(crate) pod: PodId,
    /// What its record says.
    pub(crate) info: ContainerAnnotations,
    pub(crate) dirs: RecordDirs,
    pub(crate) handler: String,
    /// The OCI spec it was made with.
    pub(crate) spec: Arc<oci_spec::runtime::Spec>,
    pub(crate) privileged: bool,
    /// Limits in force, updated ones included.
    pub(crate) resources: std::sync::RwLock<v1::LinuxContainerResources>,
    /// state.json as it is in memory; its watchers wait for the end.
    pub(crate) state: watch::Sender<Arc<ContainerState>>,
    /// Held while the container is started or removed.
    pub(crate) gate: Mutex<()>,
    pub(crate) stop: std::sync::Mutex<Option<StopUnderWay>>,
    /// Held while state.json is written, so that the newest state is the last one written.
    pub(crate) saving: Mutex<()>,
    pub(crate) announced: std::sync::Mutex<Announced>,
    pub(crate) entry: ContainerEntry,
    pub(crate) held_calls: std::sync::Mutex<HeldCalls>,
}

impl Container {
    pub(crate) fn status(&self) -> ContainerStatus {
        self.state.borrow().status
    }

    /// CRI's view of the state.
    pub(crate) fn cri_state(&self) -> v1::ContainerState {
        cri_state(&self.state.borrow())
    }

    /// Created, running or paused: it has a process.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(
            self.cri_state(),
            v1::ContainerState::ContainerCreated | v1::ContainerState::ContainerRunning
        )
    }

    /// It is to be restored from a checkpoint, and has no process until it is started.
    pub(crate) fn awaits_restore(&self) -> bool {
        let state = self.state.borrow();
        state.restored && state.init_pid == 0 && state.status == ContainerStatus::Created
    }

    pub(crate) fn init(&self) -> ProcessId {
        let state = self.state.borrow();
        ProcessId {
            pid: state.init_pid,
            start_time: state.init_start_time.clone(),
        }
    }

    /// Changes the state in memory and returns it.
    pub(crate) fn change(&self, change: impl FnOnce(&mut ContainerState)) -> Arc<ContainerState> {
        let mut result = None;
        self.state.send_modify(|state| {
            let mut next = ContainerState::clone(state);
            change(&mut next);
            *state = Arc::new(next);
            result = Some(state.clone());
        });
        result.expect("send_modify runs its closure")
    }

    /// Waits until the process is gone.
    pub(crate) async fn ended(&self) {
        let mut watch = self.state.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = watch
            .wait_for(|state| cri_state(state) == v1::ContainerState::ContainerExited)
            .await;
    }

    /// What readers of events know; held while they are told more.
    pub(crate) fn announced(&self) -> std::sync::MutexGuard<'_, Announced> {
        self.announced
            .lock()
            .expect("no holder of this lock panics")
    }

    /// Its forbidden system calls.
    pub(crate) fn held_calls(&self) -> std::sync::MutexGuard<'_, HeldCalls> {
        self.held_calls
            .lock()
            .expect("no holder of this lock panics")
    }

    /// The cgroup, as the spec names it.
    pub(crate) fn cgroups_path(&self) -> String {
        cgroups_path(&self.spec)
    }
}

/// The cgroup that a spec names; empty if it names none.
pub(crate) fn cgroups_path(spec: &oci_spec::runtime::Spec) -> String {
    let path = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.cgroups_path().as_ref());
    path.map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// CRI's view of a recorded state.
pub(crate) fn cri_state(state: &ContainerState) -> v1::ContainerState {
    match state.status {
        ContainerStatus::Created => v1::ContainerState::ContainerCreated,
        ContainerStatus::Running | ContainerStatus::Paused => v1::ContainerState::ContainerRunning,
        ContainerStatus::Stopped => v1::ContainerState::ContainerExited,
        _ => v1::ContainerState::ContainerUnknown,
    }
}
