//! `cargo xtask vm`: the VM tier, for what the build machine itself cannot show (see tests/vm/README.md).

use std::path::PathBuf;
use std::process::Command;

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

/// `build`, `smoke` or `run ...`.
pub(crate) fn run(options: &[String]) -> Result<()> {
    match options.first().map(String::as_str) {
        Some("build") => run_command(vmrun().arg("build")),
        Some("smoke") => smoke(),
        Some("run") => run_command(vmrun().args(options)),
        _ => bail!("say `vm build`, `vm smoke` or `vm run [options] -- COMMAND`"),
    }
}

/// The smoke suite where VMs can run, and a clear word where not.
pub(crate) fn smoke_or_skip() -> Result<()> {
    if !host::is_root() {
        println!("skipped: vm smoke: building the guest image needs root");
        return Ok(());
    }
    if let Err(reason) = run_command(vmrun().arg("build")) {
        println!("skipped: vm smoke: no VM can be made here: {reason:#}");
        return Ok(());
    }
    smoke()
}

/// One run per kind of host, each in a VM of its own; all of them even if one fails.
fn smoke() -> Result<()> {
    run_command(vmrun().arg("build"))?;
    let program = binary::build(Profile::Dev)?;
    let suite = suite_binary()?;
    let mut failed = Vec::new();
    for (hierarchy, driver) in HOSTS {
        println!("--- cgroup {hierarchy}, {driver} driver");
        let mut command = vmrun();
        command.args([
            "run",
            "--cgroup",
            hierarchy,
            "--timeout",
            "900",
            "--data",
            "ext4",
        ]);
        for folder in [program.parent(), suite.parent()] {
            let folder = folder.context("a built file lies in a directory")?;
            command.arg("--share").arg(folder);
        }
        command
            .arg("--env")
            .arg(format!("CRIOXIDE_TEST_BINARY={}", program.display()));
        command
            .arg("--env")
            .arg(format!("CRIOXIDE_TEST_CGROUP_DRIVER={driver}"));
        command
            .arg("--env")
            .arg(format!("CRIOXIDE_TEST_WAIT_FACTOR={WAIT_FACTOR}"));
        command.args(["--env", "CRIOXIDE_TEST_ROOT=/data", "--"]);
        command
            .arg(&suite)
            .args(["smoke::", "--test-threads", "1", "--nocapture"]);
        if let Err(error) = run_command(&mut command) {
            eprintln!("{error:#}");
            failed.push(format!("{hierarchy}/{driver}"));
        }
    }
    if !failed.is_empty() {
        bail!("the smoke suite failed on {}", failed.join(", "));
    }
    println!("vm smoke: passed on {} kinds of host", HOSTS.len());
    Ok(())
}

fn vmrun() -> Command {
    let mut command = Command::new(workspace::root().join("tests/vm/vmrun"));
    command.current_dir(workspace::root());
    command
}

/// Builds the system tests and returns their program.
fn suite_binary() -> Result<PathBuf> {
    let mut command = cargo();
    command.args([
        "test",
        "--no-run",
        "--package",
        "crioxide-system-tests",
        "--test",
        "system",
    ]);
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
