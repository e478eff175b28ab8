//! `cargo xtask tidy`: the rules of this repository that no general tool checks.
//!
//! Each rule is a function that returns what is wrong, one line each. A rule that needs an exception holds it in a
//! table with its reason.

mod architecture;
mod dependencies;
mod sources;
mod tree;
mod words;

use anyhow::{Result, bail};

use crate::workspace::{self, PackageGraph};
use tree::Tree;

/// Checks every rule and prints what is wrong.
///
/// # Errors
/// When a rule is broken.
pub(crate) fn run() -> Result<()> {
    let tree = Tree::load(workspace::root())?;
    let graph = PackageGraph::load()?;
    let mut wrong = Vec::new();
    wrong.extend(dependencies::check(&graph));
    wrong.extend(architecture::check(&graph, &tree));
    wrong.extend(sources::check(&tree));
    wrong.extend(words::check(&tree, workspace::root()));
    for line in &wrong {
        eprintln!("tidy: {line}");
    }
    println!("tidy: {}", sources::summary(&tree));
    if !wrong.is_empty() {
        bail!("{} rule(s) broken, listed above", wrong.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_repository_is_tidy() {
        super::run().expect("tidy");
    }
}
