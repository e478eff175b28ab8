//! What a test needs of the machine.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Returns from the test with a `skipped:` line unless every requirement is `Ok`.
///
/// `cargo xtask test` counts these lines, so that nothing is left out silently.
#[macro_export]
macro_rules! skip_unless {
    ($($requirement:expr),+ $(,)?) => {
        $(if let Err(reason) = $requirement {
            eprintln!("skipped: {reason}");
            return Ok(());
        })+
    };
}

/// Root's rights, for namespaces, mounts and cgroups.
///
/// # Errors
/// With the reason to skip.
pub fn root() -> Result<(), String> {
    let uid = std::fs::metadata("/proc/self").map(|me| me.uid());
    match uid {
        Ok(0) => Ok(()),
        _ => Err("needs root".to_owned()),
    }
}

/// containerd's shim v2 for runc, which stands for all shims.
pub const SHIM: &str = "containerd-shim-runc-v2";

/// containerd's shim, with runc. Only containerd can have it use scopes of systemd.
///
/// # Errors
/// With the reason to skip.
pub fn shim() -> Result<(), String> {
    program(SHIM)?;
    program("runc")?;
    match Path::new("/run/systemd/system").exists() {
        true => Err("containerd's shim knows no scopes of systemd".to_owned()),
        false => Ok(()),
    }
}

/// A program, looked up in PATH and the places for administrators' programs.
///
/// # Errors
/// With the reason to skip.
pub fn program(name: &str) -> Result<PathBuf, String> {
    if name.starts_with('/') {
        let path = PathBuf::from(name);
        return if path.exists() {
            Ok(path)
        } else {
            Err(format!("needs {name}"))
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin".into(), "/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| format!("needs the program {name}"))
}

/// `crictl`: `$CRICTL`, else in PATH, else where it is usually kept for tests.
///
/// # Errors
/// With the reason to skip.
pub fn crictl() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("CRICTL") {
        return Ok(given.into());
    }
    let cached = std::env::var_os("HOME")
        .map(|home| Path::new(&home).join(".cache/anchors/bin/crictl"))
        .filter(|path| path.exists());
    cached.map_or_else(|| program("crictl"), Ok)
}

/// The daemon under test: `$CRIOXIDE_TEST_BINARY`, else what was built last in this target directory.
///
/// # Errors
/// With the reason to skip.
pub fn daemon() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("CRIOXIDE_TEST_BINARY") {
        return Ok(given.into());
    }
    let this = std::env::current_exe().map_err(|error| format!("find this test: {error}"))?;
    // target[/triple]/debug/deps/this-test: the binary is beside or above, for this or for the static target.
    let target = this
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .ok_or("needs CRIOXIDE_TEST_BINARY: this test is in no target directory")?;
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    [triple.as_str(), "."]
        .iter()
        .flat_map(|triple| {
            ["debug", "profiling", "release"].map(|profile| target.join(triple).join(profile))
        })
        .map(|folder| folder.join("crioxide"))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .ok_or_else(|| {
            "needs the daemon: run `cargo build` first, or `cargo xtask test`".to_owned()
        })
}
