//! `cargo xtask check`: everything that needs no test run.

use anyhow::Result;

use crate::host::{self, PROTOC};
use crate::run::{cargo, run as run_command};
use crate::tidy;

/// Formatting, lints, this repository's own rules, licences and documentation; the first failure ends it.
pub(crate) fn run() -> Result<()> {
    run_command(cargo().args(["fmt", "--all", "--", "--check"]))?;
    tidy::run()?;
    host::ensure(&[PROTOC])?;
    run_command(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    run_command(
        cargo()
            .args([
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
                "--quiet",
            ])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    if host::has("cargo-deny") {
        run_command(cargo().args(["deny", "check", "licenses", "bans", "sources"]))?;
    } else {
        eprintln!("skipped: `cargo deny` is not installed (cargo install --locked cargo-deny)");
    }
    Ok(())
}
