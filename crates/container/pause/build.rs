//! Compiles the pause program for the target, by the compiler that builds everything else.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "src/elf/pause.rs";
    println!("cargo::rerun-if-changed={source}");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let output = PathBuf::from(variable("OUT_DIR")).join("pause");
    let status = Command::new(variable("RUSTC"))
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "bin",
            "--crate-name",
            "pause",
            source,
        ])
        .args(["--target", &variable("TARGET")])
        .args([
            "-C",
            "panic=abort",
            "-C",
            "opt-level=z",
            "-C",
            "strip=symbols",
            "-C",
            "relocation-model=static",
        ])
        .args([
            "-C",
            "link-self-contained=no",
            "-C",
            "default-linker-libraries=no",
        ])
        .args([
            "-C",
            "link-arg=-nostartfiles",
            "-C",
            "link-arg=-nostdlib",
            "-C",
            "link-arg=-static",
        ])
        .args([
            "-C",
            "link-arg=-Wl,--build-id=none",
            "-C",
            "link-arg=-Wl,-z,noseparate-code",
        ])
        .arg("-o")
        .arg(&output)
        .status()
        .expect("the compiler that runs this can be run");
    assert!(status.success(), "compiling {source} failed: {status}");
}
