//! `cargo xtask demo`: the main job, from a fresh clone.

use std::process::Command;

use anyhow::Result;

use crate::binary::{self, Profile};
use crate::host;
use crate::run::run as run_command;

/// Builds the binary and lets it run its demo pod. The options are those of `crioxide demo`.
pub(crate) fn run(options: &[String]) -> Result<()> {
    let program = binary::build(Profile::Profiling)?;
    // Only the demo itself needs root: the build stays the user's.
    let mut demo = if host::is_root() || !host::has("sudo") {
        Command::new(&program)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg(&program);
        sudo
    };
    run_command(demo.arg("demo").args(options))
}
