//! Equal requests share one job, which lives as long as somebody waits for it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Running jobs by what they do.
#[derive(Debug)]
pub(crate) struct Jobs<K, T, C> {
    running: Mutex<HashMap<K, Weak<Job<T, C>>>>,
}

/// A running job. Dropping the last handle cancels it.
#[derive(Debug)]
pub(crate) struct Job<T, C> {
    /// What those who wait share with the job.
    pub(crate) context: Arc<C>,
    outcome: watch::Receiver<Option<T>>,
    task: AbortHandle,
}

/// The job ended without an outcome: it panicked, or the runtime is shutting down.
#[derive(Debug, thiserror::Error)]
#[error("the job ended without a result")]
pub(crate) struct JobLost;

impl<K: Eq + Hash + Clone, T: Clone + Send + Sync + 'static, C: Default + Send + Sync + 'static>
    Jobs<K, T, C>
{
    pub(crate) fn new() -> Self {
        Self {
            running: Mutex::default(),
        }
    }

    /// The running job for `key`; if there is none, `start` makes one.
    pub(crate) fn join<F: Future<Output = T> + Send + 'static>(
        &self,
        key: &K,
        start: impl FnOnce(Arc<C>) -> F,
    ) -> Arc<Job<T, C>> {
        let mut running = self.lock();
        running.retain(|_, job| job.strong_count() > 0);
        // A finished job whose waiters have not woken up yet answers for an earlier moment: start anew.
        if let Some(job) = running.get(key).and_then(Weak::upgrade)
            && job.outcome.borrow().is_none()
            && !job.task.is_finished()
        {
            return job;
        }
        let context = Arc::new(C::default());
        let (sender, outcome) = watch::channel(None);
        let future = start(context.clone());
        let task = tokio::spawn(async move {
            let result = future.await;
            sender.send_replace(Some(result));
        })
        .abort_handle();
        let job = Arc::new(Job {
            context,
            outcome,
            task,
        });
        running.insert(key.clone(), Arc::downgrade(&job));
        job
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Weak<Job<T, C>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone, C> Job<T, C> {
    /// Waits for the outcome.
    pub(crate) async fn outcome(&self) -> Result<T, JobLost> {
        let mut outcome = self.outcome.clone();
        let value = outcome
            .wait_for(Option::is_some)
            .await
            .map_err(|_| JobLost)?;
        value.clone().ok_or(JobLost)
    }
}

impl<T, C> Drop for Job<T, C> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    type TestJobs = Jobs<&'static str, u32, ()>;

    #[tokio::test]
    async fn equal_requests_share_a_job_and_later_ones_do_not() {
        let jobs = TestJobs::new();
        let started = Arc::new(AtomicUsize::new(0));
        let (release, gate) = oneshot::channel::<u32>();
        let count = started.clone();
        let first = jobs.join(&"a", |_| async move {
            count.fetch_add(1, Ordering::SeqCst);
            gate.await.unwrap()
        });
        let second = jobs.join(&"a", |_| async { unreachable!("the first job still runs") });
        drop(first); // one of two leaves: the job goes on
        release.send(7).unwrap();
        assert_eq!(second.outcome().await.unwrap(), 7);
        let third = jobs.join(&"a", |_| async { 8 });
        assert_eq!(third.outcome().await.unwrap(), 8);
        assert_eq!(started.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_last_one_to_leave_cancels() {
        let jobs = TestJobs::new();
        let (alive, mut watcher) = oneshot::channel::<()>();
        let job = jobs.join(&"a", |_| async move {
            let _alive = alive;
            std::future::pending().await
        });
        tokio::task::yield_now().await;
        assert!(watcher.try_recv().is_err());
        drop(job);
        assert!(watcher.await.is_err(), "the sender went away with the job");
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let jobs = TestJobs::new();
        let job = jobs.join(&"a", |_| async { panic!("on purpose") });
        assert!(job.outcome().await.is_err());
    }
}
