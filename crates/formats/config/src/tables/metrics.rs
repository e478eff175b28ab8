//! `[crio.metrics]`

use std::path::PathBuf;

use super::Config;

/// Every collector there is, without the prefixes that a configuration may put before the names.
pub const METRICS_COLLECTORS: &[&str] = &[
    "image_pulls_layer_size",
    "containers_events_dropped_total",
    "containers_oom_total",
    "processes_defunct",
    "operations_total",
    "operations_latency_seconds",
    "operations_latency_seconds_total",
    "operations_errors_total",
    "image_pulls_bytes_total",
    "image_pulls_skipped_bytes_total",
    "image_pulls_failure_total",
    "image_pulls_success_total",
    "image_layer_reuse_total",
    "containers_oom_count_total",
    "containers_seccomp_notifier_count_total",
    "resources_stalled_at_stage",
    "containers_stopped_monitor_count",
    "default_runtime",
];

option_table! {
    /// `[crio.metrics]`: the Prometheus endpoint.
    pub struct MetricsConfig for Config, at [metrics] in "crio.metrics" {
        /// Serve metrics.
        enable_metrics: bool = Bool(false);
        /// The collectors that are on. The prefixes crio_ and container_runtime_ may be left out.
        metrics_collectors: Vec<String> = List(METRICS_COLLECTORS);
        /// Address of the metrics server.
        metrics_host: String = Text("127.0.0.1");
        /// Port of the metrics server.
        metrics_port: u16 = Integer(9090);
        /// A unix socket that serves the metrics as well.
        metrics_socket: Option<PathBuf> = Text("");
        /// PEM certificate of the metrics server. A pair is generated when it does not exist.
        metrics_cert: Option<PathBuf> = Text("");
        /// PEM key of the metrics server.
        metrics_key: Option<PathBuf> = Text("");
    }
}
