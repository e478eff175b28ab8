//! The command line: what `crio` understands, and a few commands of our own.

mod check;
mod command;
mod completion;
mod config;
mod daemon;
mod image;
mod manual;
mod output;
mod roff;
mod status;
mod version;
mod wipe;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::launch::start_plain_log;
use version::VersionInfo;

/// Runs the command that `arguments`, program name first, ask for.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let name = program_name(&arguments);
    let outcome = match command::command(&name).try_get_matches_from(arguments) {
        Ok(matches) => dispatch(&name, &matches),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ) =>
        {
            output::print(&error.render().to_string())
        }
        Err(error) => Err(anyhow::anyhow!(explain(&error))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            start_plain_log();
            tracing::error!(fatal = true, "{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(name: &str, matches: &clap::ArgMatches) -> anyhow::Result<()> {
    if matches.get_flag("version") {
        return output::print(&format!(
            "{name} version {}\n{}",
            version::VERSION,
            VersionInfo::collect(version::Depth::Short)
        ));
    }
    match matches.subcommand() {
        None => daemon::run(matches),
        Some(("check", command)) => check::run(matches, command),
        Some(("config", command)) => config::run(matches, command),
        Some(("complete", command)) => completion::run(name, command),
        Some(("demo", command)) => crate::demo::run(command),
        Some(("help", _)) => output::print(&command::command(name).render_help().to_string()),
        Some(("image", command)) => image::run(matches, command),
        Some(("man", command)) => manual::run_man(name, command),
        Some(("markdown", _)) => manual::run_markdown(name),
        Some(("publish", _)) => Ok(()),
        Some(("status", command)) => status::run(name, matches, command),
        Some(("version", command)) => version::run(command),
        Some(("wipe", command)) => wipe::run(matches, command),
        Some((unknown, _)) => anyhow::bail!("command {unknown:?} not supported"),
    }
}

/// The name the program was called by, for usage and version.
fn program_name(arguments: &[OsString]) -> String {
    let path = arguments.first().map(Path::new);
    path.and_then(Path::file_name)
        .map_or("crioxide".into(), |name| name.to_string_lossy())
        .into_owned()
}

/// Usage errors in the words of `crio`, where it has some.
fn explain(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match (error.kind(), context(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(flag)) if flag.starts_with('-') => {
            format!(
                "flag provided but not defined: -{}",
                flag.trim_start_matches('-')
            )
        }
        (ErrorKind::UnknownArgument, Some(word)) => format!("command {word:?} not supported"),
        _ => {
            let text = error.render().to_string();
            text.lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("error: ")
                .to_owned()
        }
    }
}
