//! No command: the daemon.

use clap::ArgMatches;
use crioxide_config::effective_toml;

use crate::launch::{ReloadSource, load_settings, prepare_daemon_process, start_log};

pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let limits = prepare_daemon_process()?;
    let settings = load_settings(matches)?;
    let log = start_log(&settings)?;
    settings.log_findings();
    tracing::info!(
        "Current CRI-O configuration:\n{}",
        effective_toml(&settings.config)
    );
    let source = ReloadSource {
        sources: settings.sources,
        host: settings.host,
    };
    tracing::debug!(open_files = ?limits.open_files, level = %log.level(), "Prepared to start from {source:?}");
    anyhow::bail!("this build has no daemon")
}
