//! `cargo xtask vm`: the VM tier, for what the build machine itself cannot show (see tests/vm/README.md).

mod powercut;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::binary::{self, Profile};
use crate::host;
use crate::run::{cargo, output, run as run_command};
use crate::workspace;

/// A kind of host that a node may be.
#[derive(Debug, Clone, Copy)]
struct Host {
    /// Hierarchy of the guest's cgroups.
    cgroups: &'static str,
    /// Cgroup driver of the daemon.
    driver: &'static str,
    /// Further options of vmrun: the security module.
    options: &'static [&'static str],
    /// Filters of the system tests that this host is for, instead of the scope's.
    own_tests: &'static [&'static str],
}

impl Host {
    const fn of(cgroups: &'static str, driver: &'static str) -> Self {
        Self {
            cgroups,
            driver,
            options: &[],
            own_tests: &[],
        }
    }

    fn name(&self) -> String {
        let options = self.options.join(" ");
        let name = format!("cgroup {}, {} driver {options}", self.cgroups, self.driver);
        name.trim_end().to_owned()
    }
}

const HOSTS: [Host; 4] = [
    Host::of("v2", "systemd"),
    Host::of("v2", "cgroupfs"),
    Host::of("v1", "systemd"),
    Host::of("v1", "cgroupfs"),
];
const SECURED_HOSTS: [Host; 3] = [
    Host {
        options: &["--lsm", "apparmor"],
        own_tests: &["security::apparmor", "lifecycle::restore"],
        ..HOSTS[0]
    },
    Host {
        options: &["--lsm", "selinux", "--selinux", "enforcing"],
        own_tests: &["security::selinux"],
        ..HOSTS[0]
    },
    Host {
        options: &["--lsm", "selinux", "--selinux", "permissive"],
        own_tests: &["security::selinux"],
        ..HOSTS[0]
    },
];

/// Waits in the guest are this many times longer than on the host: it is emulated.
const WAIT_FACTOR: &str = "10";
/// What is run, and how long it may take.
#[derive(Debug, Clone, Copy)]
struct Scope {
    /// Filters of the system tests.
    tests: &'static [&'static str],
    /// Filters of the store's own tests, of what the build machine's kernel may lack: quotas and device mapper.
    store_tests: &'static [&'static str],
    /// The hosts with security modules as well.
    secured: bool,
    /// For one kind of host.
    each: Duration,
    /// For all of them. What does not fit in is left out, and said.
    all: Duration,
    /// Whether a host that is not done in time is a failure. Emulation is slow to an unknown degree.
    in_time: bool,
}

/// A pod's life by every runtime, what containers see, limits, and the service under systemd.
const WHOLE: Scope = Scope {
    tests: &[
        "smoke::",
        "handlers::",
        "lifecycle::checkpoint",
        "lifecycle::restore",
        "logs::journal",
        "resources::",
        "security::limits",
        "security::user_namespaces",
        "service::",
    ],
    store_tests: &["quotas::", "subvolumes::", "volumes::", "devicemapper::"],
    secured: true,
    each: Duration::from_secs(1200),
    all: Duration::from_secs(7 * 1200),
    in_time: true,
};
/// A pod's life by every runtime.
const IN_CI: Scope = Scope {
    tests: &["smoke::"],
    store_tests: &["quotas::", "subvolumes::", "volumes::"],
    secured: false,
    each: Duration::from_secs(420),
    all: Duration::from_secs(1200),
    in_time: false,
};
/// Swap space on the scratch disk, for the tests of its limits.
const SWAP: &str = "fallocate -l 512M /data/swap && chmod 600 /data/swap && mkswap -q /data/swap && swapon /data/swap";
/// What vmrun exits with then.
const TIMED_OUT: i32 = 124;
/// For making the guest image.
const IMAGE_SECONDS: &str = "900";

/// `build`, `smoke`, `run ...` or `powercut ...`.
pub(crate) fn run(options: &[String]) -> Result<()> {
    match options.first().map(String::as_str) {
        Some("build") => run_command(vmrun().arg("build")),
        Some("smoke") => smoke(),
        Some("run" | "powercut") => run_command(vmrun().args(options)),
        _ => bail!(
            "say `vm build`, `vm smoke`, `vm run [options] -- COMMAND` or `vm powercut [options] --check CHECK -- COMMAND`"
        ),
    }
}

/// The smoke suite; where no VM can run that is an error.
fn smoke() -> Result<()> {
    usable()?;
    smoke_on_all_hosts(WHOLE)
}

/// The shortest form of the smoke suite; skipped, with the reason, where no VM can run.
///
/// # Errors
/// When a test failed in a VM.
pub(crate) fn smoke_in_ci() -> Result<()> {
    match usable() {
        Ok(()) => smoke_on_all_hosts(IN_CI),
        Err(reason) => {
            println!("skipped: vm smoke: {reason:#}");
            Ok(())
        }
    }
}

/// A few power cuts; skipped, with the reason, where no VM can run.
///
/// # Errors
/// When one did damage.
pub(crate) fn powercuts_in_ci() -> Result<()> {
    match usable() {
        Ok(()) => powercut::run(),
        Err(reason) => {
            println!("skipped: power cuts: {reason:#}");
            Ok(())
        }
    }
}

/// Makes the guest image if it is not there and starts a VM on it.
fn usable() -> Result<()> {
    if !host::is_root() {
        bail!("building the guest image needs root");
    }
    let mut build = Command::new("timeout");
    build
        .arg(IMAGE_SECONDS)
        .arg(vmrun().get_program())
        .arg("build");
    run_command(&mut build).context("no guest image can be made here")?;
    run_command(vmrun().args(["run", "--", "true"])).context("no VM runs here")
}

/// A VM for the store and one per kind of host; all of them even if one fails.
fn smoke_on_all_hosts(scope: Scope) -> Result<()> {
    // The daemon optimised: unoptimised code takes minutes there for what takes a second.
    let shared = workspace::target_directory()?.join("vm-smoke");
    std::fs::create_dir_all(&shared).with_context(|| format!("create `{}`", shared.display()))?;
    stripped(
        &binary::build(Profile::Profiling)?,
        &shared.join("crioxide"),
    )?;
    for suite in ["system", "root"] {
        stripped(&suite_binary(suite)?, &shared.join(suite))?;
    }
    let mut account = Vec::new();
    let mut failed = Vec::new();
    let end = Instant::now() + scope.all;
    let mut jobs = vec![("the image store".to_owned(), store_job(&shared, scope))];
    let secured = SECURED_HOSTS.iter().filter(|_| scope.secured);
    let hosts = HOSTS.iter().chain(secured);
    jobs.extend(hosts.map(|host| (host.name(), job(&shared, host, scope))));
    for (name, mut command) in jobs {
        println!("--- {name}");
        if Instant::now() + scope.each > end {
            account.push(format!(
                "skipped: {name}: no time left, this machine emulates too slowly"
            ));
            continue;
        }
        let started = Instant::now();
        let (status, skipped) = run_job(&mut command)?;
        let outcome = match status {
            Some(0) => "passed",
            Some(TIMED_OUT) => "not done in time",
            Some(125) => "the VM failed",
            _ => "FAILED",
        };
        let seconds = started.elapsed().as_secs();
        account.push(format!("{name}: {outcome} after {seconds} s"));
        account.extend(skipped.into_iter().map(|line| format!("  {line}")));
        let late = status == Some(TIMED_OUT);
        if status != Some(0) && (scope.in_time || !late) {
            failed.push(name);
        }
    }
    println!("\nvm smoke:\n{}", account.join("\n"));
    if !failed.is_empty() {
        bail!("the smoke suite failed on {}", failed.join("; "));
    }
    Ok(())
}

/// The store's tests, in a fresh VM.
fn store_job(shared: &Path, scope: Scope) -> Command {
    let mut command = vmrun();
    let seconds = scope.each.as_secs().to_string();
    command.args(["run", "--timeout", &seconds, "--data", "ext4"]);
    command
        .args(["--env", "TMPDIR=/data", "--share"])
        .arg(shared);
    let suite = shared.join("root");
    let script = format!(
        "{} {} --test-threads 2 --nocapture",
        suite.display(),
        scope.store_tests.join(" ")
    );
    command.arg("--").arg(script);
    command
}

/// The main job and the system tests of one kind of host, in a fresh VM.
fn job(shared: &Path, host: &Host, scope: Scope) -> Command {
    let (program, suite) = (shared.join("crioxide"), shared.join("system"));
    let mut command = vmrun();
    command.args([
        "run",
        "--cgroup",
        host.cgroups,
        "--timeout",
        &scope.each.as_secs().to_string(),
        "--data",
        "ext4",
    ]);
    command.args(host.options).arg("--share").arg(shared);
    for setting in [
        format!("CRIOXIDE_TEST_BINARY={}", program.display()),
        format!("CRIOXIDE_TEST_CGROUP_DRIVER={}", host.driver),
        format!("CRIOXIDE_TEST_WAIT_FACTOR={WAIT_FACTOR}"),
        "CRIOXIDE_TEST_ROOT=/data".to_owned(),
    ] {
        command.arg("--env").arg(setting);
    }
    let filters = match host.own_tests {
        [] => scope.tests,
        own => own,
    };
    let tests = format!(
        "{} {} --test-threads 2 --nocapture",
        suite.display(),
        filters.join(" ")
    );
    // The main job takes systemd's driver wherever systemd runs.
    let script = match host.driver {
        "systemd" => format!("{} demo; demo=$?; {tests} && exit $demo", program.display()),
        _ => tests,
    };
    command.arg("--").arg(format!("{SWAP} && {{ {script}; }}"));
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

/// Builds a suite of tests that has this name in one crate only, and returns its program: the one that `cargo xtask test`
/// runs, as they mostly wait.
fn suite_binary(name: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--workspace", "--test", name]);
    command.args(["--message-format", "json"]);
    if let Some(target) = binary::ensure_static_target()? {
        command.args(["--target", &target]);
    }
    output(&mut command)?
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo named no program of the tests `{name}`"))
}
