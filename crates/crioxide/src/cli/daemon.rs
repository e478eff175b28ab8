//! No command: the daemon.

use clap::ArgMatches;
use crioxide_config::effective_toml;
use crioxide_daemon::{OpenFilesLimit, Startup};

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
    crioxide_daemon::run(Startup {
        config: settings.config,
        command_line: settings.command_line,
        log,
        source: Box::new(source),
        child_open_files: OpenFilesLimit {
            soft: limits.open_files.current,
            hard: limits.open_files.maximum,
        },
    })?;
    Ok(())
}
