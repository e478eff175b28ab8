//! How many descriptors may be kept open for readings.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Each open cgroup file costs the kernel some 5 KB, most of it the buffer its text was last made in.
const MOST: usize = 4096;
/// The share of the daemon's descriptors that readings may take.
const SHARE: u64 = 4;

/// Descriptors that are left.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    left: Arc<AtomicUsize>,
}

/// Descriptors that were taken; they go back on drop.
#[derive(Debug)]
pub(crate) struct Taken {
    count: usize,
    budget: Budget,
}

impl Budget {
    /// A part of `limit`, the highest number of descriptors.
    pub(crate) fn for_limit(limit: u64) -> Self {
        let share = usize::try_from(limit / SHARE).unwrap_or(usize::MAX);
        Self {
            left: Arc::new(AtomicUsize::new(share.min(MOST))),
        }
    }

    /// Takes `count`, all or nothing.
    pub(crate) fn take(&self, count: usize) -> Option<Taken> {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(count)
            });
        taken.is_ok().then(|| Taken {
            count,
            budget: self.clone(),
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_no_more_than_its_share() {
        let budget = Budget::for_limit(40);
        let six = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        let _four = budget.take(4).unwrap();
        drop(six);
        assert!(budget.take(6).is_some());
        assert!(Budget::for_limit(u64::MAX).take(MOST + 1).is_none());
    }
}
