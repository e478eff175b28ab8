//! Removals that failed are tried again until they succeed.
//!
//! A failed DEL keeps its record. The kubelet may have forgotten the pod by then, so that nobody
//! else would ask again before the daemon's next start.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crioxide_cni::Cni;
use crioxide_engine::ports::PortError;
use tokio::sync::Semaphore;

use crate::blocking;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// A plugin may hang until its deadline in each try: most threads stay free for requests.
const PARALLEL: usize = 2;

/// Removals under way.
#[derive(Debug, Clone)]
pub(super) struct Retries {
    cni: Arc<Cni>,
    /// Pod id and interface.
    pending: Arc<Mutex<HashSet<(String, String)>>>,
    slots: Arc<Semaphore>,
}

impl Retries {
    pub(super) fn new(cni: Arc<Cni>) -> Self {
        Self {
            cni,
            pending: Arc::default(),
            slots: Arc::new(Semaphore::new(PARALLEL)),
        }
    }

    /// Tries to remove what is on record of a pod's interface, with growing pauses, until it is gone.
    pub(super) fn begin(&self, id: &str, ifname: &str) {
        let key = (id.to_owned(), ifname.to_owned());
        let is_new = self.pending().insert(key.clone());
        if is_new {
            let this = self.clone();
            tokio::spawn(async move {
                this.run(&key.0, &key.1).await;
                this.pending().remove(&key);
            });
        }
    }

    async fn run(&self, id: &str, ifname: &str) {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            // The semaphore is never closed.
            let Ok(_slot) = self.slots.acquire().await else {
                return;
            };
            let (cni, pod, interface) = (self.cni.clone(), id.to_owned(), ifname.to_owned());
            let done: Result<(), PortError> =
                blocking::run(move || cni.del_again(&pod, &interface)).await;
            match done {
                Ok(()) => {
                    tracing::info!("Successfully cleaned up network for pod {id}");
                    return;
                }
                Err(error) => {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    tracing::warn!(
                        "Failed to clean up network of pod {id}, next try in {} s: {}",
                        pause.as_secs(),
                        crioxide_engine::chain(error.as_ref())
                    );
                }
            }
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, HashSet<(String, String)>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
