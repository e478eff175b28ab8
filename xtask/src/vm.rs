//! `cargo xtask vm`: the VM tier, for what the build machine itself cannot show (see tests/vm/README.md).

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::binary::{self, Profile};
use crate::host;
use crate::run::{cargo, output, run as run_command};
use crate::workspace;

/// The hosts that a node may be: hierarchy of the guest and driver of the daemon.
const HOSTS: &[(&str, &str)] = &[
    ("v2", "systemd"),
    ("v2", "cgroupfs"),
    ("v1", "systemd"),
    ("v1", "cgroupfs"),
];
/// Waits in the guest are this many times longer than on the host: it is emulated.
const WAIT_FACTOR: &str = "10";
/// For one kind of host; far more than it takes.
const TIMEOUT_SECONDS: &str = "1200";
/// What is run there: a pod's life by every runtime, what containers see, limits, and the service under systemd.
const TESTS: &[&str] = &["smoke::", "handlers::", "resources::", "service::"];

/// `build`, `smoke` or `run ...`.
pub(crate) fn run(options: &[String]) -> Result<()> {
    match options.first().map(String::as_str) {
        Some("build") => run_command(vmrun().arg("build")),
        Some("smoke") => smoke(),
        Some("run") => run_command(vmrun().args(options)),
        _ => bail!("say `vm build`, `vm smoke` or `vm run [options] -- COMMAND`"),
    }
}

/// The smoke suite; where no VM can run that is an error.
fn smoke() -> Result<()> {
    usable()?;
    smoke_all()
}

/// Makes the guest image if it is not there and starts a VM on it.
fn usable() -> Result<()> {
    if !host::is_root() {
        bail!("building the guest image needs root");
    }
    run_command(vmrun().arg("build")).context("no guest image can be made here")?;
    run_command(vmrun().args(["run", "--", "true"])).context("no VM runs here")
}

/// One VM per kind of host; all of them even if one fails.
fn smoke_all() -> Result<()> {
    // The daemon optimised: unoptimised code takes minutes there for what takes a second.
    let shared = workspace::target_directory()?.join("vm-smoke");
    std::fs::create_dir_all(&shared).with_context(|| format!("create `{}`", shared.display()))?;
    stripped(
        &binary::build(Profile::Profiling)?,
        &shared.join("crioxide"),
    )?;
    stripped(&suite_binary()?, &shared.join("system"))?;
    let mut account = Vec::new();
    let mut failed = Vec::new();
    for (hierarchy, driver) in HOSTS {
        println!("--- cgroup {hierarchy}, {driver} driver");
        let started = std::time::Instant::now();
        let (status, skipped) = run_job(&mut job(&shared, hierarchy, driver))?;
        let outcome = match status {
            Some(0) => "passed",
            Some(124) => "not done in time",
            Some(125) => "the VM failed",
            _ => "FAILED",
        };
        let seconds = started.elapsed().as_secs();
        account.push(format!(
            "cgroup {hierarchy}, {driver} driver: {outcome} after {seconds} s"
        ));
        account.extend(skipped.into_iter().map(|line| format!("  {line}")));
        if status != Some(0) {
            failed.push(format!("{hierarchy}/{driver}"));
        }
    }
    println!("\nvm smoke:\n{}", account.join("\n"));
    if !failed.is_empty() {
        bail!("the smoke suite failed on {}", failed.join(", "));
    }
    Ok(())
}

/// The main job and the system tests of one kind of host, in a fresh VM.
fn job(shared: &Path, hierarchy: &str, driver: &str) -> Command {
    let (program, suite) = (shared.join("crioxide"), shared.join("system"));
    let mut command = vmrun();
    command.args([
        "run",
        "--cgroup",
        hierarchy,
        "--timeout",
        TIMEOUT_SECONDS,
        "--data",
        "ext4",
    ]);
    command.arg("--share").arg(shared);
    for setting in [
        format!("CRIOXIDE_TEST_BINARY={}", program.display()),
        format!("CRIOXIDE_TEST_CGROUP_DRIVER={driver}"),
        format!("CRIOXIDE_TEST_WAIT_FACTOR={WAIT_FACTOR}"),
        "CRIOXIDE_TEST_ROOT=/data".to_owned(),
    ] {
        command.arg("--env").arg(setting);
    }
    let tests = format!(
        "{} {} --test-threads 2 --nocapture",
        suite.display(),
        TESTS.join(" ")
    );
    // The main job takes systemd's driver wherever systemd runs.
    let script = match driver {
        "systemd" => format!("{} demo; demo=$?; {tests} && exit $demo", program.display()),
        _ => tests,
    };
    command.arg("--").arg(script);
    command
}

/// Runs the command; its exit status, and the lines of its stderr that say what was skipped and why.
fn run_job(command: &mut Command) -> Result<(Option<i32>, Vec<String>)> {
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .context("start vmrun")?;
    let stderr = child.stderr.take().context("stderr was asked for")?;
    let mut skipped = Vec::new();
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.context("read what the VM prints")?;
        let line = String::from_utf8_lossy(&line);
        eprintln!("{line}");
        if line.starts_with("skipped:") {
            skipped.push(line.into_owned());
        }
    }
    let status = child.wait().context("wait for vmrun")?;
    Ok((status.code(), skipped))
}

fn vmrun() -> Command {
    let mut command = Command::new(workspace::root().join("tests/vm/vmrun"));
    command.current_dir(workspace::root());
    command
}

/// A copy without symbols, a fifth in size: all of it is read through the emulated bus, and the demo packs itself.
fn stripped(program: &Path, copy: &Path) -> Result<()> {
    run_command(Command::new("strip").arg("-o").arg(copy).arg(program))
}

/// Builds the system tests and returns their program: the one that `cargo xtask test` runs, as they mostly wait.
fn suite_binary() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--workspace", "--test", "system"]);
    command.args(["--message-format", "json"]);
    if let Some(target) = binary::ensure_static_target()? {
        command.args(["--target", &target]);
    }
    output(&mut command)?
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "system")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo named no program of the system tests")
}
