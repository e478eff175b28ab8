//! Prometheus' text format.

use std::fmt::{Display, Write as _};

/// Before every name.
const PREFIX: &str = "container_runtime_crio_";

/// Types of metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Summary,
    Histogram,
}

/// A page of metrics.
pub(crate) struct Text<'a> {
    enabled: &'a dyn Fn(&str) -> bool,
    text: String,
}

impl<'a> Text<'a> {
    pub(crate) fn new(enabled: &'a dyn Fn(&str) -> bool) -> Self {
        Self {
            enabled,
            text: String::new(),
        }
    }

    /// Begins a metric; `false` if it is not wanted.
    pub(crate) fn begin(&mut self, name: &str, help: &str, kind: Kind) -> bool {
        if !(self.enabled)(name) {
            return false;
        }
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
            Kind::Histogram => "histogram",
        };
        let _infallible = writeln!(
            self.text,
            "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}"
        );
        true
    }

    /// A sample.
    pub(crate) fn line(&mut self, name: &str, suffix: &str, labels: &str, value: impl Display) {
        let _infallible = writeln!(self.text, "{PREFIX}{name}{suffix}{labels} {value}");
    }

    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// `{name="value",…}`
pub(crate) fn labels(names: &[&str], values: &[&str]) -> String {
    let pair = |(name, value): (&&str, &&str)| {
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    let pairs: Vec<_> = names.iter().zip(values).map(pair).collect();
    format!("{{{}}}", pairs.join(","))
}
