//! Creations in flight, by name: a repeated request joins the running one and gets its result.
//!
//! The work runs in a task of its own, so a client that gives up neither tears it down half-way nor leaves its name
//! reserved: the object is simply there when the client asks again.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
};

use tokio::sync::watch;

use crate::{error::EngineError, operation};

type Outcome<T> = Option<Result<T, EngineError>>;

/// Running creations of one kind of object.
#[derive(Debug)]
pub(crate) struct Creations<T> {
    running: Mutex<HashMap<String, watch::Receiver<Outcome<T>>>>,
    /// What is being made, in the words of CRI-O's metric.
    stage: &'static str,
}

impl<T> Creations<T> {
    pub(crate) fn new(stage: &'static str) -> Self {
        Self {
            running: Mutex::default(),
            stage,
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Creations<T> {
    /// The object called `name`: the one that `existing` finds, the one being made, or a new one by `make`.
    ///
    /// `make` must publish the object, so that `existing` finds it, before it returns.
    pub(crate) async fn join<M, F>(
        self: &Arc<Self>,
        name: &str,
        existing: impl FnOnce() -> Option<T>,
        make: M,
    ) -> Result<T, EngineError>
    where
        M: FnOnce() -> F,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        let mut receiver = {
            let mut running = self.running.lock().expect("no holder of this lock panics");
            if let Some(receiver) = running.get(name) {
                // The client gave up on it before and finds it still under way.
                crioxide_metrics::get().stalled.add_one([self.stage]);
                receiver.clone()
            } else if let Some(found) = existing() {
                return Ok(found);
            } else {
                let (sender, receiver) = watch::channel(None);
                running.insert(name.to_owned(), receiver.clone());
                self.spawn(name.to_owned(), sender, make());
                receiver
            }
        };
        let outcome = receiver.wait_for(Option::is_some).await;
        match outcome {
            Ok(value) => value.clone().expect("wait_for ended on Some"),
            Err(_) => Err(EngineError::refused(format!(
                "creation of {name} was abandoned: the daemon is shutting down, or failed inside"
            ))),
        }
    }

    fn spawn<F>(self: &Arc<Self>, name: String, sender: watch::Sender<Outcome<T>>, work: F)
    where
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        let this = self.clone();
        // Whoever wants the outcome listens to the sender.
        drop(operation::spawn(async move {
            // Also when the work panics: a name that stays reserved would need a restart.
            let running = Running {
                creations: &this,
                name: &name,
            };
            let outcome = work.await;
            drop(running);
            sender.send_replace(Some(outcome));
        }));
    }
}

/// The name of a creation under way; free again when this goes.
struct Running<'a, T> {
    creations: &'a Creations<T>,
    name: &'a str,
}

impl<T> Drop for Running<'_, T> {
    fn drop(&mut self) {
        let mut running = match self.creations.running.lock() {
            Ok(running) => running,
            Err(poisoned) => poisoned.into_inner(),
        };
        running.remove(self.name);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn equal_requests_share_one_creation() {
        let creations = Arc::new(Creations::<u32>::new("test"));
        let made = Arc::new(AtomicU32::new(0));
        let (open, gate) = watch::channel(false);
        let mut requests = Vec::new();
        for _ in 0..5 {
            let (creations, made, mut gate) = (creations.clone(), made.clone(), gate.clone());
            requests.push(tokio::spawn(async move {
                let work = move || async move {
                    gate.wait_for(|open| *open).await.unwrap();
                    Ok(made.fetch_add(1, Ordering::Relaxed))
                };
                creations.join("pod", || None, work).await.unwrap()
            }));
        }
        tokio::task::yield_now().await;
        open.send_replace(true);
        for request in requests {
            assert_eq!(request.await.unwrap(), 0);
        }
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_failure_frees_the_name() {
        let creations = Arc::new(Creations::<u32>::new("test"));
        let failed = creations
            .join("pod", || None, || async { Err(EngineError::refused("no")) })
            .await;
        assert!(failed.is_err());
        assert_eq!(
            creations
                .join("pod", || None, || async { Ok(7) })
                .await
                .unwrap(),
            7
        );
        assert_eq!(
            creations
                .join("pod", || Some(9), || async { Ok(8) })
                .await
                .unwrap(),
            9
        );
    }

    #[tokio::test]
    async fn a_panic_frees_the_name() {
        let creations = Arc::new(Creations::<u32>::new("test"));
        let panicked = creations
            .join("pod", || None, || async { panic!("meant to be seen") })
            .await;
        assert!(panicked.is_err());
        let again = creations.join("pod", || None, || async { Ok(7) }).await;
        assert_eq!(again.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_client_that_leaves_does_not_stop_the_work() {
        let creations = Arc::new(Creations::<u32>::new("test"));
        let (done, mut finished) = watch::channel(false);
        let (started, mut running) = watch::channel(false);
        let request = tokio::spawn({
            let creations = creations.clone();
            async move {
                let work = move || async move {
                    started.send_replace(true);
                    tokio::task::yield_now().await;
                    done.send_replace(true);
                    Ok(1)
                };
                creations.join("pod", || None, work).await
            }
        });
        running.wait_for(|x| *x).await.unwrap();
        request.abort();
        finished.wait_for(|x| *x).await.unwrap();
    }
}
