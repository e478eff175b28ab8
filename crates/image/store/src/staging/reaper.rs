//! Removing what was moved away, behind the back of whoever deleted it.
//!
//! Freeing the files of a container takes the file system many times as long as all else in a deletion. Nothing is lost
//! in a crash: what waits lies in the staging directory, which the next opening of the store empties.

use crate::staging::Staged;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

/// A thread that removes one tree after the other, started when first needed and waited for when dropped.
#[derive(Debug, Default)]
pub(crate) struct Reaper(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    queue: Sender<Staged>,
    thread: JoinHandle<()>,
}

impl Reaper {
    /// Removes the content some time soon; at once where no thread can be had.
    pub(crate) fn remove(&self, content: Vec<Staged>) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            *running = start();
        }
        if let Some(running) = &*running {
            for staged in content {
                // A queue without its thread gives the content back, and dropping it removes it.
                let _ = running.queue.send(staged);
            }
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        let running = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(Running { queue, thread }) = running.take() {
            drop(queue);
            if thread.join().is_err() {
                tracing::warn!("the thread that removes deleted content panicked");
            }
        }
    }
}

fn start() -> Option<Running> {
    let (queue, waiting) = channel::<Staged>();
    let thread = std::thread::Builder::new()
        .name("store-reaper".into())
        .stack_size(256 << 10)
        .spawn(move || {
            // A pull or a pod that comes next should not wait for it; where that is refused, it does.
            let _ = crioxide_sys::scheduling::go_behind();
            waiting.into_iter().for_each(drop);
        });
    match thread {
        Ok(thread) => Some(Running { queue, thread }),
        Err(error) => {
            tracing::warn!(%error, "no thread to remove deleted content: doing it at once");
            None
        }
    }
}
