//! The figures as a table and as JSON.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::samples::quantile;

/// Something that both the floor and the daemon did.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) floor: Vec<Duration>,
    pub(crate) daemon: Vec<Duration>,
}

/// Which lines share a picture: those of one unit and about one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plot {
    Calls,
    Starts,
    Memory,
}

/// A line over numbers of pods.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) what: String,
    pub(crate) plot: Plot,
    /// In the plot's unit.
    pub(crate) points: Vec<(usize, f64)>,
}

/// What was measured, in order.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    /// Single calls, which have no floor of their own.
    pub(crate) calls: Vec<(String, Vec<Duration>)>,
    pub(crate) curves: Vec<Curve>,
    figures: Vec<(String, f64, &'static str)>,
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

    /// One more sample of a call.
    pub(crate) fn call(&mut self, name: &str, took: Duration) {
        match self.calls.iter_mut().find(|(known, _)| known == name) {
            Some((_, samples)) => samples.push(took),
            None => self.calls.push((name.to_owned(), vec![took])),
        }
    }

    /// The next point of the curve of a call.
    pub(crate) fn point(&mut self, what: &str, pods: usize, took: Duration) {
        self.plot(Plot::Calls, what, pods, millis(took));
    }

    /// The next point of a curve; `value` is in the plot's unit.
    pub(crate) fn plot(&mut self, plot: Plot, what: &str, pods: usize, value: f64) {
        match self.curves.iter_mut().find(|curve| curve.what == what) {
            Some(curve) => curve.points.push((pods, value)),
            None => self.curves.push(Curve {
                what: what.to_owned(),
                plot,
                points: vec![(pods, value)],
            }),
        }
    }

    /// A number that is no time.
    pub(crate) fn figure(&mut self, what: &str, value: f64, unit: &'static str) {
        self.figures.push((what.to_owned(), value, unit));
    }

    pub(crate) fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "what": row.what,
                "samples": row.floor.len(),
                "floor": summary(&row.floor),
                "daemon": summary(&row.daemon),
                "ratio": row.ratio(),
            })
        });
        let calls = self.calls.iter().map(|(name, samples)| {
            json!({"what": name, "samples": samples.len(), "daemon": summary(samples)})
        });
        let curves = self.curves.iter().map(|curve| {
            let points = curve.points.iter();
            let points: Vec<Value> = points
                .map(|(pods, value)| json!({"pods": pods, curve.plot.key(): value}))
                .collect();
            json!({"what": curve.what, "points": points})
        });
        let figures = self.figures.iter();
        let figures =
            figures.map(|(what, value, unit)| json!({"what": what, "value": value, "unit": unit}));
        json!({
            "rows": rows.collect::<Vec<_>>(),
            "calls": calls.collect::<Vec<_>>(),
            "curves": curves.collect::<Vec<_>>(),
            "figures": figures.collect::<Vec<_>>(),
        })
    }
}

impl Plot {
    pub(crate) const ALL: [Self; 3] = [Self::Calls, Self::Starts, Self::Memory];

    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Calls => "Median in ms over pods that run beside",
            Self::Starts => "Start of the daemon with so many pods, to the first answer, in ms",
            Self::Memory => "Memory (PSS) with so many pods, in MiB",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Self::Calls | Self::Starts => "p50_ms",
            Self::Memory => "mib",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Calls | Self::Starts => "ms",
            Self::Memory => "MiB",
        }
    }
}

impl Row {
    /// How often the floor's time fits into the daemon's.
    pub(crate) fn ratio(&self) -> f64 {
        let floor = quantile(&self.floor, 0.5).as_secs_f64();
        quantile(&self.daemon, 0.5).as_secs_f64() / floor.max(f64::MIN_POSITIVE)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = |samples: &[Duration]| {
            let (middle, high) = (quantile(samples, 0.5), quantile(samples, 0.9));
            format!("{:.2} ({:.2})", millis(middle), millis(high))
        };
        writeln!(
            f,
            "{:<44} {:>4} {:>18} {:>18} {:>7}",
            "median (p90) in ms", "n", "floor", "daemon", "ratio"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:<44} {:>4} {:>18} {:>18} {:>7.2}",
                row.what,
                row.floor.len(),
                cell(&row.floor),
                cell(&row.daemon),
                row.ratio()
            )?;
        }
        for (name, samples) in &self.calls {
            writeln!(
                f,
                "{:<44} {:>4} {:>18} {:>18}",
                name,
                samples.len(),
                "",
                cell(samples)
            )?;
        }
        for curve in &self.curves {
            for (pods, value) in &curve.points {
                let what = format!("{} at {pods} pods", curve.what);
                let unit = curve.plot.unit();
                writeln!(f, "{what:<44} {:>4} {:>18} {value:>18.2} {unit}", "", "")?;
            }
        }
        for (what, value, unit) in &self.figures {
            writeln!(f, "{what:<67} {value:>18.1} {unit}")?;
        }
        Ok(())
    }
}

fn summary(samples: &[Duration]) -> Value {
    json!({
        "p50_ms": millis(quantile(samples, 0.5)),
        "p90_ms": millis(quantile(samples, 0.9)),
    })
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
