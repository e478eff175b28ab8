//! Durations by operation: the last one, and quantiles of those of the last minutes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::text::{self, Kind, Text};

/// How far the quantiles look back, as Go's library does.
const AGE: Duration = Duration::from_secs(600);
/// Durations that are remembered of an operation.
const MOST: usize = 1024;
const QUANTILES: [(f64, &str); 3] = [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99")];

/// Durations of operations.
#[derive(Debug, Default)]
pub struct Summaries {
    operations: Mutex<BTreeMap<&'static str, Summary>>,
}

#[derive(Debug, Default)]
struct Summary {
    recent: VecDeque<(Instant, f32)>,
    last: f64,
    count: u64,
    sum: f64,
}

impl Summaries {
    /// Takes the duration of an operation.
    pub fn observe(&self, operation: &'static str, took: Duration) {
        let mut operations = self
            .operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let summary = operations.entry(operation).or_default();
        let seconds = took.as_secs_f64();
        summary.last = seconds;
        summary.count += 1;
        summary.sum += seconds;
        if summary.recent.len() == MOST {
            summary.recent.pop_front();
        }
        summary.recent.push_back((Instant::now(), seconds as f32));
    }

    pub(crate) fn render(&self, text: &mut Text<'_>) {
        let mut operations = self
            .operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let name = "operations_latency_seconds";
        if text.begin(name, "Latency in seconds of individual CRI calls for CRI-O operations. Broken down by operation type.", Kind::Gauge) {
            for (operation, summary) in operations.iter() {
                text.line(name, "", &text::labels(&["operation"], &[operation]), summary.last);
            }
        }
        let name = "operations_latency_seconds_total";
        if !text.begin(
            name,
            "Latency in seconds of CRI-O operations. Split-up by operation type.",
            Kind::Summary,
        ) {
            return;
        }
        for (operation, summary) in operations.iter_mut() {
            let young = |(at, _): &(Instant, f32)| at.elapsed() < AGE;
            while summary.recent.front().is_some_and(|oldest| !young(oldest)) {
                summary.recent.pop_front();
            }
            let mut sorted: Vec<f32> = summary.recent.iter().map(|(_, took)| *took).collect();
            sorted.sort_by(f32::total_cmp);
            for (quantile, label) in QUANTILES {
                let labels = text::labels(&["operation", "quantile"], &[operation, label]);
                text.line(name, "", &labels, at_quantile(&sorted, quantile));
            }
            let labels = text::labels(&["operation"], &[operation]);
            text.line(name, "_sum", &labels, summary.sum);
            text.line(name, "_count", &labels, summary.count);
        }
    }
}

/// NaN of nothing, as Prometheus has it.
fn at_quantile(sorted: &[f32], quantile: f64) -> f64 {
    let rank = (sorted.len() as f64 * quantile).ceil() as usize;
    let value = sorted.get(rank.saturating_sub(1));
    value.map_or(f64::NAN, |value| f64::from(*value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let values: Vec<f32> = (1..=100u8).map(f32::from).collect();
        assert_eq!(at_quantile(&values, 0.5), 50.0);
        assert_eq!(at_quantile(&values, 0.99), 99.0);
        assert!(at_quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn remembers_a_bounded_number() {
        let summaries = Summaries::default();
        for _ in 0..MOST + 10 {
            summaries.observe("Version", Duration::from_millis(1500));
        }
        let mut text = Text::new(&|_| true);
        summaries.render(&mut text);
        let text = text.finish();
        let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        has("container_runtime_crio_operations_latency_seconds{operation=\"Version\"} 1.5");
        has(
            "container_runtime_crio_operations_latency_seconds_total{operation=\"Version\",quantile=\"0.9\"} 1.5",
        );
        has(
            "container_runtime_crio_operations_latency_seconds_total_count{operation=\"Version\"} 1034",
        );
        assert_eq!(
            summaries.operations.lock().unwrap()["Version"].recent.len(),
            MOST
        );
    }
}
