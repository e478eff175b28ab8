//! The process's own metrics, and their text for Prometheus.
//!
//! Like the log there is one set per process: whoever has something to count does so at [`get`]. Names, types and labels
//! are CRI-O's, so that dashboards and alerts go on working. Nothing in here decides anything, and counting costs a short
//! lock at most.
//!
//! The usual client libraries have no summaries that show the quantiles of the last minutes, which CRI-O's operation
//! latencies are.

#![forbid(unsafe_code)]

mod family;
mod summary;
mod text;

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

pub use family::Counters;
pub use summary::Summaries;
use text::{Kind, Text};

/// Upper bounds of the classes of layer sizes, bytes, and how Go's library writes them.
const LAYER_SIZES: [(u64, &str); 11] = [
    (1_000, "1000"),
    (1_000_000, "1e+06"),
    (10_000_000, "1e+07"),
    (50_000_000, "5e+07"),
    (100_000_000, "1e+08"),
    (200_000_000, "2e+08"),
    (300_000_000, "3e+08"),
    (400_000_000, "4e+08"),
    (500_000_000, "5e+08"),
    (1_000_000_000, "1e+09"),
    (10_000_000_000, "1e+10"),
];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    /// Calls, by operation.
    pub operations: Counters<1>,
    /// Calls that failed, by operation.
    pub operation_errors: Counters<1>,
    /// Durations of calls, by operation.
    pub operation_latency: Summaries,
    /// Bytes pulled, by media type and size class.
    pub pulled_bytes: Counters<2>,
    /// Bytes that were not pulled again, by size class.
    pub skipped_bytes: Counters<1>,
    /// Failed pulls, by the kind of error.
    pub pull_failures: Counters<1>,
    /// Pulls that succeeded.
    pub pull_successes: Counter,
    /// Sizes of pulled layers.
    pub layer_sizes: LayerSizes,
    /// Layers that were there already, by name.
    pub reused_layers: Counters<1>,
    /// Containers killed for lack of memory.
    pub oom: Counter,
    /// The same by the container's name.
    pub oom_by_name: Counters<1>,
    /// Forbidden system calls, by container and call.
    pub seccomp_notifier: Counters<2>,
    /// Events that a reader lost.
    pub events_dropped: Counter,
    /// Monitors that ended before their containers, by the container's name.
    pub stopped_monitors: Counters<1>,
    /// Requests that found a creation stuck, by stage.
    pub stalled: Counters<1>,
}

/// The process's metrics.
pub fn get() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| Metrics {
        operations: Counters::new(["operation"]),
        operation_errors: Counters::new(["operation"]),
        operation_latency: Summaries::default(),
        pulled_bytes: Counters::new(["mediatype", "size"]),
        skipped_bytes: Counters::new(["size"]),
        pull_failures: Counters::new(["error"]),
        pull_successes: Counter::default(),
        layer_sizes: LayerSizes::default(),
        reused_layers: Counters::new(["name"]),
        oom: Counter::default(),
        oom_by_name: Counters::new(["name"]),
        seccomp_notifier: Counters::new(["name", "syscall"]),
        events_dropped: Counter::default(),
        stopped_monitors: Counters::new(["name"]),
        stalled: Counters::new(["stage"]),
    })
}

/// Figures that are not counted but looked up when they are asked for.
#[derive(Debug, Clone, Default)]
pub struct Now {
    /// Children that nobody has reaped.
    pub defunct_processes: u64,
    /// The default runtime's name.
    pub default_runtime: String,
}

impl Metrics {
    /// All metrics whose collectors (names without prefix) are `enabled`, in Prometheus' text format.
    #[must_use]
    pub fn render(&self, enabled: &dyn Fn(&str) -> bool, now: &Now) -> String {
        let mut text = Text::new(enabled);
        let mut counters = |name, help, lines: Vec<(String, u64)>| {
            if text.begin(name, help, Kind::Counter) {
                for (labels, value) in lines {
                    text.line(name, "", &labels, value);
                }
            }
        };
        let plain = |counter: &Counter| vec![(String::new(), counter.value())];
        counters(
            "operations_total",
            "Cumulative number of CRI-O operations by operation type.",
            self.operations.lines(),
        );
        counters(
            "operations_errors_total",
            "Cumulative number of CRI-O operation errors by operation type.",
            self.operation_errors.lines(),
        );
        counters(
            "image_pulls_bytes_total",
            "Bytes transferred by CRI-O image pulls",
            self.pulled_bytes.lines(),
        );
        counters(
            "image_pulls_skipped_bytes_total",
            "Bytes skipped by CRI-O image pulls",
            self.skipped_bytes.lines(),
        );
        counters(
            "image_pulls_failure_total",
            "Cumulative number of CRI-O image pull failures by error.",
            self.pull_failures.lines(),
        );
        counters(
            "image_pulls_success_total",
            "Cumulative number of CRI-O image pull successes.",
            plain(&self.pull_successes),
        );
        counters(
            "image_layer_reuse_total",
            "Reused (not pulled) local image layer count by name",
            self.reused_layers.lines(),
        );
        counters(
            "containers_oom_total",
            "Amount of containers killed because they ran out of memory (OOM)",
            plain(&self.oom),
        );
        counters(
            "containers_oom_count_total",
            "Containers killed because they ran out of memory (OOM) by their name",
            self.oom_by_name.lines(),
        );
        counters(
            "containers_seccomp_notifier_count_total",
            "Amount of containers stopped because they used forbidden syscalls by their name",
            self.seccomp_notifier.lines(),
        );
        counters(
            "containers_events_dropped_total",
            "Amount of container events dropped",
            plain(&self.events_dropped),
        );
        counters(
            "containers_stopped_monitor_count",
            "Amount of containers whose monitor ended, by their name",
            self.stopped_monitors.lines(),
        );
        counters(
            "resources_stalled_at_stage",
            "Resource creation stage pod or container is stalled at.",
            self.stalled.lines(),
        );
        self.operation_latency.render(&mut text);
        self.layer_sizes.render(&mut text);
        let name = "processes_defunct";
        if text.begin(
            name,
            "Total number of defunct processes in the node",
            Kind::Gauge,
        ) {
            text.line(name, "", "", now.defunct_processes);
        }
        let name = "default_runtime";
        if text.begin(name, "The default runtime", Kind::Gauge) {
            text.line(
                name,
                "",
                &text::labels(&["runtime"], &[&now.default_runtime]),
                1,
            );
        }
        text.finish()
    }
}

/// The class of a size, as CRI-O labels it.
#[must_use]
pub fn size_class(bytes: u64) -> &'static str {
    const CLASSES: [(u64, &str); 12] = [
        (10_000_000_000, ">10 GiB"),
        (1_000_000_000, ">1 GiB"),
        (500_000_000, ">500 MiB"),
        (400_000_000, ">400 MiB"),
        (300_000_000, ">300 MiB"),
        (200_000_000, ">200 MiB"),
        (100_000_000, ">100 MiB"),
        (50_000_000, ">50 MiB"),
        (10_000_000, ">10 MiB"),
        (1_000_000, ">1 MiB"),
        (1_000, ">1 KiB"),
        (0, ">0 B"),
    ];
    let class = CLASSES.iter().find(|(above, _)| bytes > *above);
    class.map_or(">0 B", |(_, name)| name)
}

/// How many layers of which size were pulled.
#[derive(Debug, Default)]
pub struct LayerSizes {
    classes: [Counter; LAYER_SIZES.len()],
    count: Counter,
    sum: Counter,
}

impl LayerSizes {
    /// Counts a layer.
    pub fn observe(&self, bytes: u64) {
        if let Some(index) = LAYER_SIZES.iter().position(|(most, _)| bytes <= *most) {
            self.classes[index].add_one();
        }
        self.count.add_one();
        self.sum.add(bytes);
    }

    fn render(&self, text: &mut Text<'_>) {
        let name = "image_pulls_layer_size";
        if !text.begin(
            name,
            "Bytes transferred by CRI-O image pulls per layer",
            Kind::Histogram,
        ) {
            return;
        }
        let mut below = 0;
        for ((_, bound), class) in LAYER_SIZES.iter().zip(&self.classes) {
            below += class.value();
            text.line(name, "_bucket", &text::labels(&["le"], &[bound]), below);
        }
        text.line(
            name,
            "_bucket",
            &text::labels(&["le"], &["+Inf"]),
            self.count.value(),
        );
        text.line(name, "_sum", "", self.sum.value());
        text.line(name, "_count", "", self.count.value());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes() {
        assert_eq!(size_class(0), ">0 B");
        assert_eq!(size_class(1_000), ">0 B");
        assert_eq!(size_class(1_001), ">1 KiB");
        assert_eq!(size_class(20_000_000_000), ">10 GiB");
    }

    #[test]
    fn layers_are_counted_in_every_class_above_them() {
        let sizes = LayerSizes::default();
        sizes.observe(500);
        sizes.observe(60_000_000);
        let mut text = Text::new(&|_| true);
        sizes.render(&mut text);
        let text = text.finish();
        let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        has("container_runtime_crio_image_pulls_layer_size_bucket{le=\"1000\"} 1");
        has("container_runtime_crio_image_pulls_layer_size_bucket{le=\"5e+07\"} 1");
        has("container_runtime_crio_image_pulls_layer_size_bucket{le=\"1e+08\"} 2");
        has("container_runtime_crio_image_pulls_layer_size_bucket{le=\"1e+10\"} 2");
        has("container_runtime_crio_image_pulls_layer_size_bucket{le=\"+Inf\"} 2");
        has("container_runtime_crio_image_pulls_layer_size_sum 60000500");
    }

    #[test]
    fn only_what_is_enabled() {
        let text = get().render(
            &|name| name == "default_runtime",
            &Now {
                default_runtime: "crun".to_owned(),
                ..Now::default()
            },
        );
        assert_eq!(
            text,
            "# HELP container_runtime_crio_default_runtime The default runtime\n\
             # TYPE container_runtime_crio_default_runtime gauge\n\
             container_runtime_crio_default_runtime{runtime=\"crun\"} 1\n"
        );
    }
}
