//! The front door to every task of this repository: `cargo xtask <task>`.
//!
//! CI calls the same tasks that people do. A task installs what it needs where it can, and says what is missing
//! where it cannot.
#![forbid(unsafe_code)]

mod bench;
mod binary;
mod check;
mod ci;
mod demo;
mod host;
mod layers;
mod package;
mod run;
mod suite;
mod tidy;
mod vm;
mod workspace;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <task> [options]

  demo [--keep]     build the static binary and run a pod with it, from nothing to nothing
  test [FILTER...]  run all tests: unit, golden and, as root, those on real namespaces, cgroups and networks
  check             formatting, clippy, tidy, licences and documentation, with warnings denied
  tidy              only this repository's own rules: layers, sizes, names, unsafe code
  bench [ARGS...]   measure the daemon against a floor program that does the same kernel work directly
  package           the release binary with checksum, man pages and unit file, in out/
  vm build          make the guest image of the VM tier
  vm smoke          run the smoke suite in VMs: cgroup v2 and v1, systemd and cgroupfs drivers
  vm run [ARGS...]  one command in a VM (see tests/vm/README.md)
  ci                all that CI runs: check, test, vm smoke";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((task, options)) = arguments.split_first() else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    let outcome = match task.as_str() {
        "demo" => demo::run(options),
        "test" => suite::run(options),
        "check" => check::run(),
        "tidy" => tidy::run(),
        "bench" => bench::run(options),
        "package" => package::run(),
        "vm" => vm::run(options),
        "ci" => ci::run(),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => {
            eprintln!("no task `{other}`\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {task}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
