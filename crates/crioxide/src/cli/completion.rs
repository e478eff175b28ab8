//! `complete`: completion scripts.

use clap::ArgMatches;
use clap_complete::{Shell, generate};

use super::{command, output};

pub(crate) fn run(name: &str, matches: &ArgMatches) -> anyhow::Result<()> {
    let shell = match matches.get_one::<String>("shell").map(String::as_str) {
        Some("fish") => Shell::Fish,
        Some("zsh") => Shell::Zsh,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    generate(shell, &mut command::command(name), name, &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
