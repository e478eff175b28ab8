//! `cargo xtask ci`: what CI runs, in the order in which failures are cheapest to find.

use anyhow::Result;

use crate::{check, suite};

type Part = (&'static str, fn() -> Result<()>);

/// The checks and the tests. Both run even if one fails, so that one run shows everything.
///
/// # Errors
/// When one of them failed.
pub(crate) fn run() -> Result<()> {
    let mut failed = Vec::new();
    let parts: [Part; 2] = [("check", check::run), ("test", || suite::run(&[]))];
    println!("skipped: vm smoke: emulated, and not part of CI yet; run `cargo xtask vm smoke`");
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
