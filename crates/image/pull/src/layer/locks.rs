//! One fetch per layer at a time, also when several images have it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crioxide_store::LayerId;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Locks by layer id.
///
/// Whoever takes several must take them from the base layer upwards: an id contains its whole stack, so everybody
/// meets at the lowest common layer and nobody waits in a circle.
#[derive(Debug, Default)]
pub(crate) struct LayerLocks {
    locks: Mutex<HashMap<LayerId, Weak<AsyncMutex<()>>>>,
}

impl LayerLocks {
    /// Waits until nobody else fetches the layer.
    pub(crate) async fn acquire(&self, id: &LayerId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(id).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(AsyncMutex::new(()));
                    locks.insert(id.clone(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}
