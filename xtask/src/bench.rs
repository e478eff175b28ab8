//! `cargo xtask bench`: builds the daemon and the bench programs, and runs the measurement.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::binary::{self, Profile};
use crate::run::run as run_command;

/// The options are those of the bench program, and `--profile`.
pub(crate) fn run(options: &[String]) -> Result<()> {
    let (profile, options) = profile(options)?;
    let daemon = match std::env::var_os("CRIOXIDE_TEST_BINARY") {
        Some(given) => given.into(),
        None => binary::build(profile)?,
    };
    let bench = binary::build_package("crioxide-bench", profile)?;
    run_command(
        Command::new(bench)
            .args(options)
            .env("CRIOXIDE_TEST_BINARY", daemon),
    )
}

fn profile(options: &[String]) -> Result<(Profile, Vec<String>)> {
    let mut options = options.to_vec();
    let Some(at) = options.iter().position(|word| word == "--profile") else {
        return Ok((Profile::Release, options));
    };
    let name = options.get(at + 1).context("`--profile` wants a name")?;
    let profile = match name.as_str() {
        "release" => Profile::Release,
        "profiling" => Profile::Profiling,
        other => bail!("no profile `{other}` to measure: release or profiling"),
    };
    options.drain(at..at + 2);
    Ok((profile, options))
}
