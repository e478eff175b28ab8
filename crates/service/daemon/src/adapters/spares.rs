//! Network namespaces made ahead, so that a pod need not wait for the kernel to make one.
//!
//! Making one and its veth pair takes more than a millisecond, most of it under a lock that all network namespaces of the
//! kernel share. It is done while no pod comes: with many at once it would only be done at another time by the same
//! processors. Nothing wakes up while nothing happens.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crioxide_cni::Cni;
use crioxide_cni_plugins::{Builtin, Spare};
use crioxide_engine::ports::PortError;
use tokio::sync::Notify;

use super::network::{INTERFACE, PAIRED};
use crate::blocking;

/// How many are kept: what a client that makes one pod after the other uses up between two pauses.
const KEPT: usize = 4;

/// How long no pod may have come before another one is made.
const PAUSE: Duration = Duration::from_millis(8);

/// How old one may get. A namespace takes over some of the host's sysctls when it is made, and those may change.
const AGE: Duration = Duration::from_secs(60);

fn is_fresh((made, _): &(Instant, Spare)) -> bool {
    made.elapsed() <= AGE
}

/// What is ready for pods to come.
#[derive(Debug)]
pub(crate) struct Spares {
    cni: Arc<Cni>,
    plugins: Builtin,
    ready: Mutex<VecDeque<(Instant, Spare)>>,
    taken: Notify,
}

impl Spares {
    /// Begins with none; the first pods are the sign that more will come. Must be called inside the tokio runtime.
    pub(crate) fn start(cni: Arc<Cni>, plugins: Builtin) -> Arc<Self> {
        let spares = Arc::new(Self {
            cni,
            plugins,
            ready: Mutex::default(),
            taken: Notify::new(),
        });
        tokio::spawn(Arc::clone(&spares).refill());
        spares
    }

    /// A namespace for the pod whose namespace gets pinned at `pin`, unless none is ready.
    pub(crate) fn take(&self, pin: &Path) -> Option<Arc<OwnedFd>> {
        let found = {
            let mut ready = self.ready();
            ready.retain(is_fresh);
            ready.pop_front()
        };
        self.taken.notify_one();
        let (_, spare) = found?;
        // A pair is of use to one plugin only, and in the way of all others.
        if spare.has_pair() != self.wants_pairs() {
            return None;
        }
        let netns = spare.netns().ok()?;
        self.plugins.hand_out(spare, pin);
        Some(Arc::new(netns))
    }

    /// The pod whose namespace was pinned at `pin` goes, or did not come about.
    pub(crate) fn forget(&self, pin: &Path) {
        self.plugins.forget_spare(pin);
    }

    fn wants_pairs(&self) -> bool {
        self.cni.begins_with_builtin(PAIRED)
    }

    fn ready(&self) -> std::sync::MutexGuard<'_, VecDeque<(Instant, Spare)>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn refill(self: Arc<Self>) {
        loop {
            self.taken.notified().await;
            while self.is_disturbed().await || self.made_one().await {}
        }
    }

    /// Whether a pod comes within the pause.
    async fn is_disturbed(&self) -> bool {
        let taken = self.taken.notified();
        tokio::time::timeout(PAUSE, taken).await.is_ok()
    }

    /// Makes one, unless all are there.
    async fn made_one(self: &Arc<Self>) -> bool {
        let spares = Arc::clone(self);
        let made = blocking::run(move || spares.make_one().map_err(PortError::from)).await;
        made.unwrap_or_else(|error| {
            // Pods make their own then, and say what is wrong.
            let reason = crioxide_engine::chain(error.as_ref());
            tracing::debug!("No network namespace could be made ahead: {reason}");
            false
        })
    }

    fn make_one(&self) -> std::io::Result<bool> {
        self.ready().retain(is_fresh);
        if self.ready().len() >= KEPT {
            return Ok(false);
        }
        let interface = self.wants_pairs().then_some(INTERFACE);
        let spare = self.plugins.make_spare(interface)?;
        self.ready().push_back((Instant::now(), spare));
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
