//! Building `crioxide` itself: statically linked where a C compiler for musl can be had.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::host::{self, MUSL};
use crate::run::{cargo, output, run};
use crate::workspace;

/// How fast the result should be, against how fast it should be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Unoptimised: for tests.
    Dev,
    /// Optimised, with symbols and a quick link: for a first look and everyday measurements.
    Profiling,
    /// What ships.
    Release,
}

impl Profile {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Profiling => "profiling",
            Self::Release => "release",
        }
    }

    fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            other => other.name(),
        }
    }
}

/// The static target of this machine's processor.
pub(crate) fn static_target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// The target to build for: static, with what that needs installed if missing; or None for the host's own when
/// it cannot be had, which is said on stderr.
pub(crate) fn ensure_static_target() -> Result<Option<String>> {
    let target = static_target();
    match ensure_target_installed(&target).and_then(|()| host::ensure(&[MUSL])) {
        Ok(()) => Ok(Some(target)),
        Err(reason) => {
            eprintln!(
                "note: no static build ({reason:#}); building for this machine's own C library"
            );
            Ok(None)
        }
    }
}

/// Builds `crioxide` and returns its path.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    build_package("crioxide", profile)
}

/// Builds the program of one package, which has the package's name, and returns its path.
pub(crate) fn build_package(package: &str, profile: Profile) -> Result<PathBuf> {
    let target = ensure_static_target()?;
    let mut directory = workspace::target_directory()?;
    let mut command = cargo();
    command.args([
        "build",
        "--package",
        package,
        "--bins",
        "--profile",
        profile.name(),
    ]);
    if let Some(target) = &target {
        command.args(["--target", target]);
        directory.push(target);
    }
    run(&mut command)?;
    let program = directory.join(profile.directory()).join(package);
    program
        .canonicalize()
        .with_context(|| format!("find the program just built at `{}`", program.display()))
}

fn ensure_target_installed(target: &str) -> Result<()> {
    let library = output(Command::new("rustc").current_dir(workspace::root()).args([
        "--print",
        "target-libdir",
        "--target",
        target,
    ]))?;
    if PathBuf::from(library.trim()).is_dir() {
        return Ok(());
    }
    run(Command::new("rustup")
        .current_dir(workspace::root())
        .args(["target", "add", target]))
}
