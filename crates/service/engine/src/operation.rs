//! Operations: work that goes on whatever its client does, each on a thread of its own where there is one.
//!
//! An operation is a chain of short blocking calls. Handing each of them to a pool and waiting for it costs two
//! wake-ups of threads, which is more than most of the calls take. On a thread that belongs to the operation the ports
//! may block at once ([`may_block`]).

use std::{cell::Cell, future::Future};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
    task::JoinHandle,
};
use tracing::Instrument as _;

/// Threads for operations. More operations than that take turns on the runtime's workers, as they may wait for each
/// other; so this must be less than the runtime's blocking threads.
const THREADS: usize = 32;

static FREE: Semaphore = Semaphore::const_new(THREADS);

thread_local! {
    static OWN: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread belongs to an operation, so that blocking it keeps nobody else waiting.
#[must_use]
pub fn may_block() -> bool {
    OWN.get()
}

/// Whether any thread belongs to an operation now.
#[must_use]
pub fn any_under_way() -> bool {
    FREE.available_permits() < THREADS
}

/// Starts an operation in the caller's span.
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    // Boxed, because operations are large and change hands a few times before they run.
    let work = Box::pin(work.in_current_span());
    let runtime = Handle::current();
    // With one thread in all, time and news come from the thread that waits.
    if runtime.runtime_flavor() == RuntimeFlavor::CurrentThread {
        return tokio::spawn(work);
    }
    let Ok(permit) = FREE.try_acquire() else {
        return tokio::spawn(work);
    };
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let _owned = Owned::begin();
        runtime.block_on(work)
    })
}

/// Marks the thread, which goes back to the pool afterwards.
struct Owned;

impl Owned {
    fn begin() -> Self {
        OWN.set(true);
        Self
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        OWN.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_that_wait_for_each_other_all_end() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(THREADS + 8)
            .build()
            .expect("a runtime");
        let (open, gate) = tokio::sync::watch::channel(0);
        runtime.block_on(async {
            let mut waiting = Vec::new();
            for number in 0..THREADS * 2 {
                let (open, mut gate) = (open.clone(), gate.clone());
                waiting.push(spawn(async move {
                    // The last of them lets the first go.
                    open.send_modify(|count| *count += 1);
                    let all = gate.wait_for(|count| *count == THREADS * 2).await;
                    all.map(|_| number).expect("the sender is here")
                }));
            }
            for (number, done) in waiting.into_iter().enumerate() {
                assert_eq!(done.await.expect("no operation panics"), number);
            }
        });
        assert!(!may_block());
    }

    #[test]
    fn an_operation_has_its_thread() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .expect("a runtime");
        // Other tests may hold all threads for a moment.
        let found = runtime.block_on(async {
            for _ in 0..1000 {
                if spawn(async { may_block() }).await.expect("no panic") {
                    return true;
                }
                tokio::task::yield_now().await;
            }
            false
        });
        assert!(found);
    }
}
