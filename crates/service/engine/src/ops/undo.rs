//! Undo of multi-step operations: each acquisition registers how to give it back, and a failure runs them backwards.

use std::{fmt::Display, future::Future, pin::Pin};

use crate::ports::PortError;

type Step = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Result<(), PortError>> + Send>> + Send>;

/// What has been acquired so far. Dropping it keeps everything.
#[derive(Default)]
pub(crate) struct Undo {
    steps: Vec<(String, Step)>,
}

impl Undo {
    /// Registers how to give back what was just acquired; `what` is for the log.
    pub(crate) fn push<F, Fut>(&mut self, what: impl Display, step: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), PortError>> + Send + 'static,
    {
        self.steps
            .push((what.to_string(), Box::new(move || Box::pin(step()))));
    }

    /// Takes over the steps of a part that was made side by side with others.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.steps.append(&mut other.steps);
    }

    /// Gives everything back, newest first. A step that fails is logged and does not stop the others.
    pub(crate) async fn run(mut self) {
        while let Some((what, step)) = self.steps.pop() {
            if let Err(error) = step().await {
                tracing::warn!(
                    "Failed to undo {what}: {}",
                    crate::error::chain(error.as_ref())
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn runs_backwards_and_past_errors() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut undo = Undo::default();
        for name in ["first", "second", "third"] {
            let seen = seen.clone();
            undo.push(name, move || async move {
                seen.lock().unwrap().push(name);
                if name == "second" {
                    Err("broken".into())
                } else {
                    Ok(())
                }
            });
        }
        undo.run().await;
        assert_eq!(*seen.lock().unwrap(), ["third", "second", "first"]);
    }
}
