//! How slowly a body may come: a trickle holds a pull up as silence does.

use std::time::Duration;

use tokio::time::Instant;

use super::Phase;

/// As much has to come within the limit (bytes), which the slowest line manages; the end of a body may be less.
const STRIDE: u64 = 16 << 10;

/// Counts what comes and how long it was waited for. Time in which nobody waits does not count.
#[derive(Debug)]
pub(super) struct Pace {
    limit: Duration,
    waited: Duration,
    received: u64,
}

impl Pace {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            waited: Duration::ZERO,
            received: 0,
        }
    }

    /// Waits for the next piece. The error is what was waited for in vain.
    pub(super) async fn wait<T>(&mut self, next: impl Future<Output = T>) -> Result<T, Phase> {
        let (started, left) = (Instant::now(), self.limit.saturating_sub(self.waited));
        let outcome = tokio::time::timeout(left, next).await;
        self.waited += started.elapsed();
        outcome.map_err(|_| match self.received {
            0 => Phase::Body,
            _ => Phase::Trickle,
        })
    }

    /// A piece came.
    pub(super) fn received(&mut self, bytes: usize) {
        self.received += bytes as u64;
        if self.received >= STRIDE {
            *self = Self::new(self.limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_and_a_trickle_end_and_a_stride_is_progress() {
        let never = std::future::pending::<()>;
        let mut pace = Pace::new(Duration::ZERO);
        assert_eq!(pace.wait(never()).await, Err(Phase::Body));
        assert_eq!(pace.wait(async { 5 }).await, Ok(5));
        pace.received(STRIDE as usize - 1);
        assert_eq!(pace.wait(never()).await, Err(Phase::Trickle));
        pace.received(1);
        assert_eq!(pace.wait(never()).await, Err(Phase::Body));
        let mut pace = Pace::new(Duration::from_millis(2));
        let mut waits = 0;
        while pace
            .wait(tokio::time::sleep(Duration::from_millis(1)))
            .await
            .is_ok()
        {
            pace.received(1);
            waits += 1;
        }
        assert!(waits <= 2, "time waited adds up");
    }
}
