//! Power cuts under pulls, removals and containers, as many as CI has time for (see docs/testing.md).

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{TIMED_OUT, run_job, stripped, suite_binary, vmrun};
use crate::workspace;

/// File systems, and what becomes there of what was not flushed.
const DISKS: [(&str, &str); 3] = [("ext4", "lose"), ("xfs", "lose"), ("btrfs", "keep")];
/// Moments of each run that are looked at.
const CUTS: &str = "2";
/// How long the work goes on, seconds.
const AFTER: &str = "15-25";
/// For one disk; what is not done by then is no failure, as nobody knows how slow emulation is.
const EACH: Duration = Duration::from_secs(120);
/// For all of them.
const ALL: Duration = Duration::from_secs(240);

/// A few cuts on each file system.
pub(super) fn run() -> Result<()> {
    let shared = workspace::target_directory()?.join("vm-powercut");
    std::fs::create_dir_all(&shared)?;
    let program = shared.join("pulls");
    stripped(&suite_binary("pulls")?, &program)?;
    let half = |name: &str| {
        let program = program.display();
        format!("{program} --exact survival::power::{name} --nocapture")
    };
    let end = Instant::now() + ALL;
    let (mut account, mut failed) = (Vec::new(), Vec::new());
    for (file_system, cache) in DISKS {
        let name = format!("{CUTS} cuts on {file_system}, cache: {cache}");
        println!("--- {name}");
        if Instant::now() + EACH > end {
            account.push(format!(
                "skipped: {name}: no time left, this machine emulates too slowly"
            ));
            continue;
        }
        let started = Instant::now();
        let mut command = vmrun();
        command
            .args(["powercut", "--data", file_system, "--cache", cache])
            .args(["--cuts", CUTS, "--after", AFTER])
            .args(["--timeout", &(EACH.as_secs() / 2).to_string()])
            .arg("--share")
            .arg(&shared)
            .args(["--env", "CRIOXIDE_TEST_POWER=/data/store"])
            .args(["--check", &half("after_it_came_back"), "--"])
            .arg(format!("mkdir /data/store; exec {}", half("until_it_goes")));
        let (status, _) = run_job(&mut command)?;
        let outcome = match status {
            Some(0) => "intact",
            Some(TIMED_OUT) => "not done in time",
            _ => "FAILED",
        };
        let seconds = started.elapsed().as_secs();
        account.push(format!("{name}: {outcome} after {seconds} s"));
        if !matches!(status, Some(0 | TIMED_OUT)) {
            failed.push(name);
        }
    }
    println!("\npower cuts:\n{}", account.join("\n"));
    if !failed.is_empty() {
        bail!("a power cut did damage: {}", failed.join("; "));
    }
    Ok(())
}
