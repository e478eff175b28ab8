//! The option tables: `[crio]` and its sub-tables, one file each.

mod api;
mod checkpoint_restore;
mod handler;
mod image;
mod metrics;
mod network;
mod nri;
mod root;
mod runtime;
mod stats;
mod tracing;
mod workload;

use std::collections::BTreeMap;

pub use api::ApiConfig;
pub use checkpoint_restore::CheckpointRestoreConfig;
pub(crate) use handler::BUILTIN_RUNTIME;
pub use handler::{RuntimeBinary, RuntimeHandler};
pub use image::ImageConfig;
pub use metrics::{METRICS_COLLECTORS, MetricsConfig};
pub use network::NetworkConfig;
pub use nri::{NriConfig, NriDefaultValidatorConfig};
pub use root::RootConfig;
pub use runtime::RuntimeConfig;
pub use stats::StatsConfig;
pub use tracing::TracingConfig;
pub use workload::{Workload, WorkloadResources};

use crate::option::OptionSpec;

/// The whole configuration, resolved: every key has a value of its own type.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[crio]`: the store and the files that survive the process.
    pub root: RootConfig,
    /// `[crio.api]`: sockets and servers.
    pub api: ApiConfig,
    /// `[crio.runtime]`: how pods and containers are run.
    pub runtime: RuntimeConfig,
    /// `[crio.runtime.runtimes.<handler>]` by handler name.
    pub runtimes: BTreeMap<String, RuntimeHandler>,
    /// `[crio.runtime.workloads.<name>]` by name.
    pub workloads: BTreeMap<String, Workload>,
    /// `[crio.checkpoint_restore]`.
    pub checkpoint_restore: CheckpointRestoreConfig,
    /// `[crio.image]`: where images come from.
    pub image: ImageConfig,
    /// `[crio.network]`: CNI.
    pub network: NetworkConfig,
    /// `[crio.metrics]`: the Prometheus endpoint.
    pub metrics: MetricsConfig,
    /// `[crio.tracing]`: OpenTelemetry.
    pub tracing: TracingConfig,
    /// `[crio.stats]`: pod and container statistics.
    pub stats: StatsConfig,
    /// `[crio.nri]`: node resource interface plugins.
    pub nri: NriConfig,
}

impl Config {
    /// The handler that `default_runtime` names.
    pub fn default_handler(&self) -> Option<&RuntimeHandler> {
        self.runtimes.get(&self.runtime.default_runtime)
    }
}

impl Default for Config {
    /// What the daemon runs with when nothing is configured on a host without `storage.conf` and SELinux.
    fn default() -> Self {
        let mut config = Self {
            root: RootConfig::default(),
            api: ApiConfig::default(),
            runtime: RuntimeConfig::default(),
            runtimes: BTreeMap::from([("crun".to_owned(), RuntimeHandler::prefilled())]),
            workloads: BTreeMap::new(),
            checkpoint_restore: CheckpointRestoreConfig::default(),
            image: ImageConfig::default(),
            network: NetworkConfig::default(),
            metrics: MetricsConfig::default(),
            tracing: TracingConfig::default(),
            stats: StatsConfig::default(),
            nri: NriConfig::default(),
        };
        crate::load::finish::place_monitors(&mut config);
        config
    }
}

/// One TOML table of fixed keys.
#[derive(Debug)]
pub struct TableSpec {
    /// Such as `crio.api`.
    pub name: &'static str,
    /// One sentence for the template.
    pub doc: &'static str,
    pub options: &'static [OptionSpec<Config>],
}

impl TableSpec {
    /// The option with this key.
    pub fn option(&self, key: &str) -> Option<&'static OptionSpec<Config>> {
        self.options.iter().find(|option| option.key == key)
    }
}

/// Every table of fixed keys in the order of the template.
pub const TABLES: &[TableSpec] = &[
    TableSpec {
        name: "crio",
        doc: "Storage, and the files that outlive the daemon.",
        options: RootConfig::OPTIONS,
    },
    TableSpec {
        name: "crio.api",
        doc: "The CRI socket and the streaming server.",
        options: ApiConfig::OPTIONS,
    },
    TableSpec {
        name: "crio.runtime",
        doc: "How pods and containers are run.",
        options: RuntimeConfig::OPTIONS,
    },
    TableSpec {
        name: "crio.checkpoint_restore",
        doc: "Checkpoint and restore of containers.",
        options: CheckpointRestoreConfig::OPTIONS,
    },
    TableSpec {
        name: "crio.image",
        doc: "How images are found, verified and pulled.",
        options: ImageConfig::OPTIONS,
    },
    TableSpec {
        name: "crio.network",
        doc: "The pod network, set up by CNI plugins.",
        options: NetworkConfig::OPTIONS,
    },
    TableSpec {
        name: "crio.metrics",
        doc: "The Prometheus endpoint.",
        options: MetricsConfig::OPTIONS,
    },
    TableSpec {
        name: "crio.tracing",
        doc: "Export of OpenTelemetry traces.",
        options: TracingConfig::OPTIONS,
    },
    TableSpec {
        name: "crio.stats",
        doc: "Statistics of pods and containers.",
        options: StatsConfig::OPTIONS,
    },
    TableSpec {
        name: "crio.nri",
        doc: "Plugins of the node resource interface.",
        options: NriConfig::OPTIONS,
    },
    TableSpec {
        name: "crio.nri.default_validator",
        doc: "The built-in validator of what NRI plugins change.",
        options: NriDefaultValidatorConfig::OPTIONS,
    },
];

/// Every option of the fixed tables.
pub(crate) fn options() -> impl Iterator<Item = &'static OptionSpec<Config>> {
    TABLES.iter().flat_map(|table| table.options.iter())
}
