//! The log of the daemon, and that of commands.

use crioxide_config::{LogFormat, LogLevel};
use crioxide_telemetry::{
    Format, InitLogError, Level, LogDestination, LogHandle, LogSettings, init,
};

use super::settings::Settings;

/// Starts the log that `settings` describe.
pub(crate) fn start_log(settings: &Settings) -> Result<LogHandle, InitLogError> {
    init(LogSettings {
        level: level(settings.config.runtime.log_level),
        filter: settings.config.runtime.log_filter.clone(),
        format: match settings.command_line.log_format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        },
        destination: settings
            .command_line
            .log
            .clone()
            .map_or(LogDestination::Stderr, LogDestination::File),
    })
}

/// Starts a log for a process that has no settings, or fails before it has them.
pub(crate) fn start_plain_log() {
    let settings = LogSettings {
        level: Level::Warn,
        filter: String::new(),
        format: Format::Text,
        destination: LogDestination::Stderr,
    };
    // When a log is there already the line goes there.
    let _installed_before = init(settings);
}

fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Panic => Level::Panic,
        LogLevel::Fatal => Level::Fatal,
        LogLevel::Error => Level::Error,
        LogLevel::Warn => Level::Warn,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    }
}
