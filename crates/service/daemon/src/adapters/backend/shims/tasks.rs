//! The containers that shims serve.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use crioxide_engine::ports::{PortResult, ProcessId, RecordDirs};
use crioxide_names::{ContainerId, PodId};
use crioxide_shim_client::{Bootstrap, Shim, TaskExit};
use tokio::task::AbortHandle;

use super::link::Link;

/// A container of a shim.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) pod: PodId,
    pub(super) id: ContainerId,
    pub(super) dirs: RecordDirs,
    pub(super) link: Arc<Link>,
    /// A former daemon had it made, or was about to.
    pub(super) is_adopted: bool,
    /// How it was ended after its shim had died.
    pub(super) cleaned: tokio::sync::Mutex<Option<TaskExit>>,
    init: Mutex<ProcessId>,
    follower: Mutex<Option<AbortHandle>>,
}

impl Task {
    pub(super) fn new(pod: PodId, id: ContainerId, dirs: RecordDirs, link: Arc<Link>) -> Self {
        Self {
            pod,
            id,
            dirs,
            link,
            is_adopted: false,
            cleaned: tokio::sync::Mutex::default(),
            init: Mutex::default(),
            follower: Mutex::default(),
        }
    }

    /// The connection to its shim.
    pub(super) async fn shim(&self) -> PortResult<Arc<Shim>> {
        Ok(self.link.shim().await?)
    }

    /// The process that stands for its first one.
    pub(super) fn init(&self) -> ProcessId {
        locked(&self.init).clone()
    }

    pub(super) fn set_init(&self, init: ProcessId) {
        *locked(&self.init) = init;
    }

    /// Notes who follows it, if `start` is the first.
    pub(super) fn follow_once(&self, start: impl FnOnce() -> AbortHandle) {
        locked(&self.follower).get_or_insert_with(start);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(follower) = locked(&self.follower).take() {
            follower.abort();
        }
    }
}

/// All of them, and the shims.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    tasks: Mutex<HashMap<ContainerId, Arc<Task>>>,
    links: Mutex<HashMap<String, Weak<Link>>>,
}

impl Tasks {
    pub(super) fn of(&self, id: &ContainerId) -> Option<Arc<Task>> {
        locked(&self.tasks).get(id).cloned()
    }

    pub(super) fn insert(&self, task: Arc<Task>) {
        locked(&self.tasks).insert(task.id.clone(), task);
    }

    /// Keeps the one that is there already, if any.
    pub(super) fn insert_or_get(&self, task: Task) -> Arc<Task> {
        let mut all = locked(&self.tasks);
        let id = task.id.clone();
        all.entry(id).or_insert_with(|| Arc::new(task)).clone()
    }

    pub(super) fn remove(&self, id: &ContainerId) {
        locked(&self.tasks).remove(id);
    }

    /// Whether another container has the same shim.
    pub(super) fn shares_link(&self, task: &Task) -> bool {
        locked(&self.tasks)
            .values()
            .any(|other| other.id != task.id && Arc::ptr_eq(&other.link, &task.link))
    }

    /// The shim that serves there.
    pub(super) fn link(&self, bootstrap: Bootstrap) -> PortResult<Arc<Link>> {
        let address = bootstrap.address()?.as_str().to_owned();
        let mut all = locked(&self.links);
        all.retain(|_, link| link.strong_count() > 0);
        if let Some(known) = all.get(&address).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let link = Arc::new(Link::new(bootstrap)?);
        all.insert(address, Arc::downgrade(&link));
        Ok(link)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half-changed by a panic while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
