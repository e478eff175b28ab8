//! `cargo xtask test`: all tests, and a plain account of what ran and what did not.

mod report;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::binary::{self, Profile};
use crate::host::{self, PROTOC, TEST_TOOLS};
use crate::run::{cargo, run as run_command};
use crate::workspace;
use report::Report;

/// Builds the binary under test, runs every test (or those whose names hold one of `filters`) and prints the account.
///
/// # Errors
/// When something does not build or a test fails.
pub(crate) fn run(filters: &[String]) -> Result<()> {
    if let Err(reason) = host::ensure(TEST_TOOLS) {
        eprintln!("note: {reason:#}; the tests that need them will be skipped");
    }
    host::ensure(&[PROTOC])?;
    let program = match std::env::var_os("CRIOXIDE_TEST_BINARY") {
        Some(given) => given.into(),
        None => binary::build(Profile::Dev)?,
    };
    let mut tests = cargo();
    // The same target as the binary's: its dependencies are built once, and the tests run what ships.
    let target = binary::ensure_static_target()?;
    let has_nextest = host::has("cargo-nextest");
    tests.args(if has_nextest {
        &["nextest", "run", "--no-fail-fast", "--profile", "full"][..]
    } else {
        &["test", "--no-fail-fast"][..]
    });
    tests.arg("--workspace");
    if let Some(target) = &target {
        tests.args(["--target", target]);
    }
    tests.env("CRIOXIDE_TEST_BINARY", &program);
    // A failed test says what failed; where in the async runtime that was noticed helps nobody.
    tests.env("RUST_LIB_BACKTRACE", "0");
    let (report, passed) = if has_nextest {
        with_nextest(tests.args(filters))?
    } else {
        with_cargo_test(&mut tests, filters)?
    };
    let documented = filters.is_empty() && has_nextest;
    if documented {
        let mut documentation = cargo();
        documentation.args(["test", "--doc", "--workspace", "--quiet"]);
        // What the tests built serves here too.
        if let Some(target) = &target {
            documentation.args(["--target", target]);
        }
        run_command(&mut documentation)?;
    }
    println!("\n{report}");
    if !host::is_root() {
        println!(
            "not run as root: tests that need real namespaces, mounts and cgroups skipped themselves"
        );
    }
    if !passed {
        bail!("tests failed");
    }
    if report.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

fn with_nextest(command: &mut Command) -> Result<(Report, bool)> {
    let junit = workspace::target_directory()?.join("nextest/full/junit.xml");
    // An old account must not be taken for this run's.
    match std::fs::remove_file(&junit) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove `{}`", junit.display()));
        }
        _ => {}
    }
    let outcome = run_command(command);
    let text = match (std::fs::read_to_string(&junit), outcome.as_ref()) {
        (Ok(text), _) => text,
        // Without an account it did not get as far as running: the build's error is the one to show.
        (Err(_), Err(_)) => return outcome.map(|()| (Report::default(), false)),
        (Err(error), Ok(())) => {
            return Err(error).with_context(|| format!("read `{}`", junit.display()));
        }
    };
    Ok((Report::from_junit(&text), outcome.is_ok()))
}

fn with_cargo_test(command: &mut Command, filters: &[String]) -> Result<(Report, bool)> {
    command.args(["--", "--show-output"]).args(filters);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("start `cargo test`")?;
    let stdout = child.stdout.take().context("the pipe just asked for")?;
    let mut report = Report::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("read the output of `cargo test`")?;
        println!("{line}");
        report.add_line(&line);
    }
    let status = child.wait().context("wait for `cargo test`")?;
    Ok((report, status.success()))
}
