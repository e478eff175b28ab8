//! Processor time per second, from readings at odd times.

/// Shorter spans than this give figures that jump.
const SPAN: i64 = 1_000_000_000;
/// A first figure may come of a shorter one, better than none.
const FIRST: i64 = 50_000_000;

/// The rate of a counter of nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    base: Option<(i64, u64)>,
    last: Option<u64>,
}

impl Rate {
    /// Takes a reading and returns the nanoseconds per second of late.
    pub(crate) fn update(&mut self, time: i64, used: u64) -> Option<u64> {
        let Some((base_time, base_used)) = self.base else {
            self.base = Some((time, used));
            return None;
        };
        let span = time.saturating_sub(base_time);
        if used < base_used {
            // Another cgroup of the same name.
            *self = Self {
                base: Some((time, used)),
                last: None,
            };
        } else if span >= SPAN || self.last.is_none() && span >= FIRST {
            let per_second =
                u128::from(used - base_used) * 1_000_000_000 / span.unsigned_abs() as u128;
            self.last = u64::try_from(per_second).ok();
            if span >= SPAN {
                self.base = Some((time, used));
            }
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn half_a_processor() {
        let mut rate = Rate::default();
        assert_eq!(rate.update(0, 1000), None);
        // Too close together to tell.
        assert_eq!(rate.update(1000, 2000), None);
        assert_eq!(rate.update(SECOND / 10, 50_001_000), Some(500_000_000));
        assert_eq!(rate.update(2 * SECOND, 1_000_001_000), Some(500_000_000));
        // A short span does not make the figure jump.
        assert_eq!(
            rate.update(2 * SECOND + 10, 1_900_000_000),
            Some(500_000_000)
        );
        assert_eq!(rate.update(4 * SECOND, 1_000_001_000), Some(0));
    }

    #[test]
    fn a_counter_that_falls_begins_anew() {
        let mut rate = Rate::default();
        rate.update(0, 1000);
        assert_eq!(rate.update(SECOND, 1000), Some(0));
        assert_eq!(rate.update(2 * SECOND, 5), None);
        assert_eq!(rate.update(3 * SECOND, 1005), Some(1000));
    }
}
