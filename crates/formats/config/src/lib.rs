//! `crio.conf`: text -> raw settings -> resolved values, and everything that can be derived from the one
//! table of options (command-line flags, environment variables, template, documentation, reload plan).
//!
//! The crate is pure. It reads no file, no environment and no clock: whoever starts a process gathers the
//! texts ([`ConfigFile`]), the overrides ([`Override`]) and what the host says ([`HostDefaults`]), and
//! [`resolve`] turns them into a [`Config`]. Checks that need the host (does a binary exist, does a
//! directory) belong to the daemon.
//!
//! ```
//! use crioxide_config::{ConfigFile, HostDefaults, resolve};
//!
//! let file = ConfigFile::new("/etc/crio/crio.conf", "[crio.runtime]\nlog_level = \"debug\"\n");
//! let loaded = resolve(&HostDefaults::default(), &[file], &[]).unwrap();
//! assert_eq!(loaded.config.runtime.log_level.as_str(), "debug");
//! ```
#![forbid(unsafe_code)]

#[macro_use]
mod declare;

pub mod annotations;
mod check;
#[allow(
    rustdoc::invalid_html_tags,
    rustdoc::broken_intra_doc_links,
    reason = "the text of an option also goes into templates and manual pages, as it is"
)]
mod command_line;
mod diagnostic;
mod load;
mod option;
mod print;
mod reload;
#[allow(
    rustdoc::invalid_html_tags,
    rustdoc::broken_intra_doc_links,
    reason = "the text of an option also goes into templates and manual pages, as it is"
)]
mod tables;
mod value;

pub use command_line::CommandLineOptions;
pub use diagnostic::{ConfigError, Origin, Warning};
pub use load::overrides::{Override, OverrideError, override_from_environment, override_from_flag};
pub use load::raw::ConfigFile;
pub use load::resolve::{HostDefaults, Loaded, resolve};
pub use option::{Flag, Kind, Literal, OptionSpec, Visibility};
pub use print::encode::effective_toml;
pub use print::template::{Detail, config_template};
pub use reload::{ReloadChange, ReloadKind, ReloadStep, apply_reload_step, reload_steps};
pub use tables::{
    ApiConfig, CheckpointRestoreConfig, Config, ImageConfig, METRICS_COLLECTORS, MetricsConfig,
    NetworkConfig, NriConfig, NriDefaultValidatorConfig, RootConfig, RuntimeBinary, RuntimeConfig,
    RuntimeHandler, StatsConfig, TABLES, TableSpec, TracingConfig, Workload, WorkloadResources,
};
pub use value::choice::{
    CgroupManager, CheckpointLevel, HandlerType, ImageVolumes, LogFormat, LogLevel, ShortNameMode,
    TlsVersion,
};
pub use value::{IdleTimeout, InvalidValue, OptionValue, StreamPort, Value};
pub use value::{duration, size};
