//! Everything that a command line, an environment and a host's files come to.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ArgMatches;
use crioxide_config::{
    CommandLineOptions, Config, HostDefaults, Origin, Override, Warning, resolve,
};

use super::environment::gather;
use super::files::ConfigSources;
use super::host::host_defaults;

/// The resolved configuration and what is needed to resolve it again.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) host: HostDefaults,
    pub(crate) command_line: CommandLineOptions,
    pub(crate) sources: ConfigSources,
    /// The files that were read, lowest first.
    pub(crate) files: Vec<PathBuf>,
    /// Flags and variables that were set, for the log.
    pub(crate) given: Vec<Override>,
}

/// Reads and resolves the configuration for the global flags in `matches`.
pub(crate) fn load_settings(matches: &ArgMatches) -> anyhow::Result<Settings> {
    let overrides = gather(matches, &|name| std::env::var(name).ok())?;
    let mut command_line = CommandLineOptions::default();
    for given in &overrides.command_line {
        let option = CommandLineOptions::OPTIONS
            .iter()
            .find(|option| option.path() == given.key)
            .expect("the override was made from an option of this list");
        option
            .set(&mut command_line, &given.value)
            .map_err(|invalid| anyhow::anyhow!("{}: {invalid}", given.origin))?;
    }
    let default_file = CommandLineOptions::default().config;
    let sources = ConfigSources {
        file_named: command_line.config != default_file,
        file: command_line.config.clone(),
        directory: command_line.config_dir.clone(),
    };
    let host = host_defaults().context("read the defaults of the host")?;
    let files = sources.read()?;
    let loaded = resolve(&host, &files, &overrides.keys)?;
    let mut given = overrides.keys;
    given.extend(
        overrides
            .command_line
            .into_iter()
            .filter(|item| item.key != "runtimes"),
    );
    crioxide_telemetry::check_filter(&loaded.config.runtime.log_filter)
        .context("invalid value for `crio.runtime.log_filter`")?;
    Ok(Settings {
        config: loaded.config,
        warnings: loaded.warnings,
        host,
        command_line,
        sources,
        files: files.into_iter().map(|file| file.path).collect(),
        given,
    })
}

impl Settings {
    /// Logs what was read, which flags were set and what was odd.
    pub(crate) fn log_findings(&self) {
        self.sources.announce(&self.files);
        for given in &self.given {
            if let Origin::Flag { name } = &given.origin {
                tracing::info!("FLAG: --{name}=\"{}\"", given.value);
            }
        }
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}
