//! `config`: the documented configuration file.

use clap::ArgMatches;
use crioxide_config::{Config, Detail, HostDefaults, config_template};

use super::output;
use crate::launch::load_settings;

pub(crate) fn run(global: &ArgMatches, command: &ArgMatches) -> anyhow::Result<()> {
    // Flags and files are checked in either case.
    let settings = load_settings(global)?;
    for warning in &settings.warnings {
        eprintln!("{warning}");
    }
    output::print(&if command.get_flag("default") {
        config_template(
            &Config::default(),
            &HostDefaults::default(),
            Detail::Everything,
        )
    } else {
        config_template(&settings.config, &settings.host, Detail::Changed)
    })
}
