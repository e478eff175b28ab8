//! `cargo xtask bench`: builds the release binary and the bench programs, and runs the measurement.

use std::process::Command;

use anyhow::Result;

use crate::binary::{self, Profile};
use crate::run::run as run_command;

/// The options are those of the bench program.
pub(crate) fn run(options: &[String]) -> Result<()> {
    let daemon = match std::env::var_os("CRIOXIDE_TEST_BINARY") {
        Some(given) => given.into(),
        None => binary::build(Profile::Release)?,
    };
    let bench = binary::build_package("crioxide-bench", Profile::Release)?;
    run_command(
        Command::new(bench)
            .args(options)
            .env("CRIOXIDE_TEST_BINARY", daemon),
    )
}
