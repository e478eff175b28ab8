//! One run of a program: feed its input, collect its output, end it at the deadline.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use super::ExecPlugin;
use crate::plugin::{PluginError, Verb};
use crate::program::{self, Finished, Running};

/// Results are a few hundred bytes; a plugin that prints more is broken.
const STDOUT_LIMIT: usize = 1024 * 1024;
/// A plugin that is being replaced on disk cannot be started for a moment.
const BUSY_RETRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// Runs the plugin's program to its end or to the deadline.
pub(super) fn run(
    plugin: &ExecPlugin,
    environment: &[(&'static str, String)],
    stdin: &[u8],
    verb: Verb,
    deadline: Instant,
) -> Result<Finished, PluginError> {
    let started = Instant::now();
    let running = start(plugin, environment, deadline)?;
    let talk = |source: io::Error| PluginError::Talk {
        plugin: plugin.plugin_type.clone(),
        source,
    };
    match program::exchange(running, stdin, STDOUT_LIMIT, deadline) {
        Ok(Some(finished)) => Ok(finished),
        Ok(None) => Err(PluginError::TimedOut {
            plugin: plugin.plugin_type.clone(),
            verb,
            seconds: deadline.saturating_duration_since(started).as_secs_f64(),
        }),
        Err(error) => Err(talk(error)),
    }
}

fn start(
    plugin: &ExecPlugin,
    environment: &[(&'static str, String)],
    deadline: Instant,
) -> Result<Running, PluginError> {
    let mut tries = 0;
    loop {
        let variables = environment.iter().map(|(key, value)| (key, value));
        match program::start(Command::new(&plugin.path).envs(variables)) {
            Ok(running) => return Ok(running),
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && tries < BUSY_RETRIES
                    && Instant::now() + BUSY_PAUSE < deadline =>
            {
                tries += 1;
                std::thread::sleep(BUSY_PAUSE);
            }
            Err(source) => {
                return Err(PluginError::Start {
                    plugin: plugin.plugin_type.clone(),
                    path: plugin.path.clone(),
                    source,
                });
            }
        }
    }
}
