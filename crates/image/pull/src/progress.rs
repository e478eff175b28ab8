//! What a pull reports while it runs.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use crioxide_names::Digest;

/// Hears about a pull. Called often and from several tasks, so it must be quick.
pub trait Progress: Send + Sync + Debug {
    /// Something happened.
    fn report(&self, event: &ProgressEvent);
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// The image is known now.
    Resolved {
        /// Where it comes from.
        source: String,
        /// Its layers with their blobs' sizes (bytes), base layer first.
        layers: Vec<(Digest, u64)>,
    },
    /// A layer got further. Equal layers of one image are told apart by `index`.
    Layer {
        /// Position, base layer first.
        index: usize,
        /// Digest of the blob.
        digest: Digest,
        /// Bytes of the blob received.
        done: u64,
        /// Bytes of the blob in all.
        total: u64,
        /// What is going on.
        state: LayerState,
    },
    /// Everything is fetched; the image is being made durable and recorded.
    Committing,
}

/// What is going on with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// The store has it already.
    Reused,
    /// It is being fetched and unpacked.
    Fetching,
    /// It is fetched, unpacked and verified.
    Unpacked,
}

/// Passes events on to everybody who waits for the same pull.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    listeners: Mutex<Vec<Arc<dyn Progress>>>,
}

impl Audience {
    /// One more listener; it hears what comes from now on.
    pub(crate) fn join(&self, listener: Arc<dyn Progress>) {
        self.lock().push(listener);
    }

    pub(crate) fn report(&self, event: &ProgressEvent) {
        for listener in self.lock().iter() {
            listener.report(event);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<dyn Progress>>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
