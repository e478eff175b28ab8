//! Sizes of writable layers, counted in the background: a list never walks a tree.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crioxide_engine::ports::{PortResult, Usage};
use crioxide_store::{LayerId, Store};
use tokio::sync::mpsc;

use super::meter::{Meter, now};

/// A size is counted again when it is asked for after this long, or after `collection_period` if that is longer.
const LASTS: Duration = Duration::from_secs(10);

/// Counts layers, one at a time.
#[derive(Debug)]
pub(crate) struct Layers {
    lasts: i64,
    queue: mpsc::UnboundedSender<Arc<Meter>>,
}

impl Layers {
    /// Must run inside the tokio runtime.
    pub(crate) fn new(store: Arc<Store>, period: Duration) -> Self {
        // Each meter is at most once in the queue.
        let (queue, mut wanted) = mpsc::unbounded_channel::<Arc<Meter>>();
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while wanted.recv_many(&mut batch, usize::MAX).await > 0 {
                let (meters, store) = (std::mem::take(&mut batch), store.clone());
                let counted = tokio::task::spawn_blocking(move || {
                    for meter in meters {
                        count(&store, &meter);
                    }
                });
                if let Err(error) = counted.await {
                    tracing::warn!("Failed to count writable layers: {error}");
                }
            }
        });
        Self {
            lasts: i64::try_from(period.max(LASTS).as_nanos()).unwrap_or(i64::MAX),
            queue,
        }
    }

    /// Has the size counted if it is not known or old.
    pub(crate) fn want(&self, meter: &Arc<Meter>) {
        let known = meter
            .layer()
            .is_some_and(|usage| now().saturating_sub(usage.timestamp) < self.lasts);
        if !known
            && !meter.counting.swap(true, Ordering::AcqRel)
            && self.queue.send(meter.clone()).is_err()
        {
            meter.count_ended(None);
        }
    }
}

fn count(store: &Store, meter: &Meter) {
    let usage = match walk(store, meter.id()) {
        Ok(usage) => usage,
        Err(error) => {
            // It is being removed, or was damaged: the latter shows elsewhere.
            tracing::debug!(
                "No size of the writable layer of {}: {}",
                meter.id(),
                crioxide_engine::chain(error.as_ref())
            );
            None
        }
    };
    meter.count_ended(usage);
}

fn walk(store: &Store, id: &str) -> PortResult<Option<Usage>> {
    let Some(record) = store.container(id)? else {
        return Ok(None);
    };
    let usage = store.layer_usage(&LayerId::parse(&record.layer)?)?;
    Ok(Some(Usage {
        timestamp: now(),
        bytes: usage.bytes,
        inodes: usage.inodes,
    }))
}
