//! `cargo xtask ci`: what CI runs, in the order in which failures are cheapest to find.

use anyhow::Result;

use crate::{check, suite, vm};

type Part = (&'static str, fn() -> Result<()>);

/// The checks, the tests, the smoke suite in VMs, and power cuts. All run even if one fails, so that one run shows everything.
///
/// # Errors
/// When one of them failed.
pub(crate) fn run() -> Result<()> {
    let mut failed = Vec::new();
    let parts: [Part; 4] = [
        ("check", check::run),
        ("test", || suite::run(&[])),
        ("vm smoke", vm::smoke_in_ci),
        ("power cuts", vm::powercuts_in_ci),
    ];
    for (name, part) in parts {
        println!("\n=== {name}");
        let started = std::time::Instant::now();
        let outcome = part();
        println!(
            "=== {name}: {} after {} s",
            if outcome.is_ok() { "ok" } else { "FAILED" },
            started.elapsed().as_secs()
        );
        if let Err(error) = outcome {
            eprintln!("{name}: {error:#}");
            failed.push(name);
        }
    }
    anyhow::ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
