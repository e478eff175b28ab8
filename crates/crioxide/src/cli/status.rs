//! `status`: a client of the daemon's inspect endpoints.

mod container;
mod info;
mod request;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ArgMatches;

use super::{command, output};
use crate::launch::load_settings;
use request::get;

pub(crate) fn run(name: &str, global: &ArgMatches, command: &ArgMatches) -> anyhow::Result<()> {
    let socket = || -> anyhow::Result<PathBuf> {
        match command.get_one::<String>("socket") {
            Some(path) => Ok(PathBuf::from(path)),
            None => Ok(load_settings(global)?.config.api.listen),
        }
    };
    match command.subcommand() {
        Some(("config", _)) => output::print(&text(get(&socket()?, "/config")?)?),
        Some(("info", _)) => output::print(&info::render(&get(&socket()?, "/info")?)?),
        Some(("containers", options)) => {
            let id = options
                .get_one::<String>("id")
                .context("the argument --id cannot be empty")?;
            output::print(&container::render(&get(
                &socket()?,
                &container::path(id)?,
            )?)?)
        }
        Some(("goroutines", _)) => output::print(&text(get(&socket()?, "/debug/goroutines")?)?),
        Some(("heap", options)) => {
            let profile = get(&socket()?, "/debug/heap")?;
            write_heap(&profile, options.get_one::<String>("file"))
        }
        _ => {
            let mut help = command::command(name);
            help.build();
            let status = help
                .find_subcommand_mut("status")
                .context("the grammar has a status command")?;
            output::print(&status.render_help().to_string())
        }
    }
}

fn text(body: Vec<u8>) -> anyhow::Result<String> {
    String::from_utf8(body).context("the daemon's answer is not text")
}

fn write_heap(profile: &[u8], file: Option<&String>) -> anyhow::Result<()> {
    if file.is_some_and(|file| file == "-") {
        use std::io::Write as _;
        return std::io::stdout()
            .write_all(profile)
            .context("write to standard output");
    }
    let path = match file {
        Some(file) => PathBuf::from(file),
        None => std::env::temp_dir().join(format!("crio-heap-{}", std::process::id())),
    };
    std::fs::write(&path, profile).with_context(|| format!("write `{}`", path.display()))?;
    output::print(&format!("Wrote heap dump to: {}\n", path.display()))
}
