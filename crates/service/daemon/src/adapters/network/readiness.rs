//! For how long a network that says it is not ready is still called ready.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bridges short absences of a network's agent (`cni_status_grace_period`).
#[derive(Debug)]
pub(super) struct Readiness {
    grace: Duration,
    last_ready: Mutex<Option<Instant>>,
}

impl Readiness {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            grace,
            last_ready: Mutex::new(None),
        }
    }

    /// What is said of the node, given what the network says now.
    pub(super) fn judge(&self, answer: Result<(), String>, now: Instant) -> Result<(), String> {
        let mut last_ready = self
            .last_ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(()) => {
                *last_ready = Some(now);
                Ok(())
            }
            Err(reason) => {
                let within_grace = !self.grace.is_zero()
                    && last_ready.is_some_and(|at| now.duration_since(at) < self.grace);
                if within_grace {
                    tracing::debug!("CNI network is not ready, within its grace period: {reason}");
                    Ok(())
                } else {
                    Err(reason)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_given_its_grace() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let bad = || Err("no agent".to_owned());
        let none = Readiness::new(Duration::ZERO);
        assert!(none.judge(Ok(()), start).is_ok() && none.judge(bad(), start).is_err());

        let some = Readiness::new(Duration::from_secs(30));
        assert!(some.judge(bad(), start).is_err(), "it was never ready");
        some.judge(Ok(()), start).unwrap();
        some.judge(bad(), after(29)).unwrap();
        assert_eq!(some.judge(bad(), after(30)), bad());
        some.judge(Ok(()), after(31)).unwrap();
        some.judge(bad(), after(40)).unwrap();
    }
}
