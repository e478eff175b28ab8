//! One operation at a time for each pod.
//!
//! An attachment is changed by requests, by the retry of a removal that failed, and by the repair of
//! rules that a firewall reload took away. Each holds its pod's gate meanwhile.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};

/// The pods that are being worked on.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    busy: Mutex<HashSet<String>>,
    left: Condvar,
}

/// Keeps others from working on the pod until dropped.
#[derive(Debug)]
pub(crate) struct Gate<'a> {
    gates: &'a Gates,
    id: String,
}

impl Gates {
    /// Waits for whoever works on pod `id`. All of them have deadlines.
    pub(crate) fn enter(&self, id: &str) -> Gate<'_> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        while busy.contains(id) {
            busy = self.left.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        busy.insert(id.to_owned());
        Gate {
            gates: self,
            id: id.to_owned(),
        }
    }

    /// As [`Self::enter`], but without waiting.
    pub(crate) fn try_enter(&self, id: &str) -> Option<Gate<'_>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.insert(id.to_owned()).then(|| Gate {
            gates: self,
            id: id.to_owned(),
        })
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        let mut busy = self
            .gates
            .busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        busy.remove(&self.id);
        drop(busy);
        self.gates.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pod_at_a_time() {
        let gates = Gates::default();
        let first = gates.enter("a");
        assert!(gates.try_enter("a").is_none());
        assert!(gates.try_enter("b").is_some());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| gates.enter("a").id.clone());
            drop(first);
            assert_eq!(waiting.join().unwrap(), "a");
        });
        assert!(gates.try_enter("a").is_some());
    }
}
