//! Counters told apart by labels.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::text;

/// Label sets that one metric may have: names come from outside, memory does not grow with them for ever.
const MOST: usize = 10_000;

/// Counters with `N` labels.
#[derive(Debug)]
pub struct Counters<const N: usize> {
    names: [&'static str; N],
    values: Mutex<BTreeMap<[String; N], u64>>,
}

impl<const N: usize> Counters<N> {
    pub(crate) fn new(names: [&'static str; N]) -> Self {
        Self {
            names,
            values: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<[String; N], u64>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one to the counter with these label values.
    pub fn add_one(&self, labels: [&str; N]) {
        self.add(labels, 1);
    }

    /// Adds `count` to the counter with these label values.
    pub fn add(&self, labels: [&str; N], count: u64) {
        let mut values = self.lock();
        let labels = labels.map(str::to_owned);
        if values.len() < MOST || values.contains_key(&labels) {
            *values.entry(labels).or_default() += count;
        }
    }

    /// Forgets the counter with these label values.
    pub fn remove(&self, labels: [&str; N]) {
        self.lock().remove(&labels.map(str::to_owned));
    }

    /// Label text and value of each counter.
    pub(crate) fn lines(&self) -> Vec<(String, u64)> {
        let values = self.lock();
        let lines = values.iter().map(|(labels, value)| {
            let labels: Vec<_> = labels.iter().map(String::as_str).collect();
            (text::labels(&self.names, &labels), *value)
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_labels_up_to_a_limit() {
        let counters = Counters::new(["name", "syscall"]);
        counters.add_one(["a", "x"]);
        counters.add(["a", "x"], 2);
        counters.add_one(["a", "y\"\\\n"]);
        assert_eq!(
            counters.lines(),
            [
                ("{name=\"a\",syscall=\"x\"}".to_owned(), 3),
                ("{name=\"a\",syscall=\"y\\\"\\\\\\n\"}".to_owned(), 1)
            ]
        );
        counters.remove(["a", "x"]);
        assert_eq!(counters.lines().len(), 1);
        for index in 0..MOST + 5 {
            counters.add_one([&index.to_string(), ""]);
        }
        assert_eq!(counters.lines().len(), MOST);
    }
}
