//! The figures as a table and as JSON.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::samples::quantile;

#[derive(Debug)]
struct Row {
    what: String,
    floor: Vec<Duration>,
    daemon: Vec<Duration>,
}

/// Samples of floor and daemon, by what was measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    /// The daemon's largest resident set so far.
    pub(crate) peak_memory_kib: u64,
}

impl Report {
    /// One more sample of each.
    pub(crate) fn add(&mut self, what: &str, floor: Duration, daemon: Duration) {
        let at = self
            .rows
            .iter()
            .position(|row| row.what == what)
            .unwrap_or_else(|| {
                self.rows.push(Row {
                    what: what.to_owned(),
                    floor: Vec::new(),
                    daemon: Vec::new(),
                });
                self.rows.len() - 1
            });
        self.rows[at].floor.push(floor);
        self.rows[at].daemon.push(daemon);
    }

    pub(crate) fn to_json(&self) -> Value {
        let summary = |samples: &[Duration]| {
            json!({
                "p50_ms": millis(quantile(samples, 0.5)),
                "p90_ms": millis(quantile(samples, 0.9)),
            })
        };
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "what": row.what,
                    "samples": row.floor.len(),
                    "floor": summary(&row.floor),
                    "daemon": summary(&row.daemon),
                    "ratio": row.ratio(),
                })
            })
            .collect();
        json!({ "rows": rows, "peak_memory_kib": self.peak_memory_kib })
    }
}

impl Row {
    fn ratio(&self) -> f64 {
        let floor = quantile(&self.floor, 0.5).as_secs_f64();
        quantile(&self.daemon, 0.5).as_secs_f64() / floor.max(f64::MIN_POSITIVE)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<32} {:>4} {:>18} {:>18} {:>7}",
            "median (p90) in ms", "n", "floor", "daemon", "ratio"
        )?;
        for row in &self.rows {
            let cell = |samples: &[Duration]| {
                let (middle, high) = (quantile(samples, 0.5), quantile(samples, 0.9));
                format!("{:.2} ({:.2})", millis(middle), millis(high))
            };
            writeln!(
                f,
                "{:<32} {:>4} {:>18} {:>18} {:>7.2}",
                row.what,
                row.floor.len(),
                cell(&row.floor),
                cell(&row.daemon),
                row.ratio()
            )?;
        }
        writeln!(
            f,
            "largest resident set of the daemon: {} MiB",
            self.peak_memory_kib >> 10
        )
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
