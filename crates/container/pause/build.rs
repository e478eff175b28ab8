//! Compiles the pause program for the target, by the compiler that builds everything else.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "src/elf/pause.rs";
    println!("cargo::rerun-if-changed={source}");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let output = PathBuf::from(variable("OUT_DIR")).join("pause");
    let target = variable("TARGET");
    let mut compiler = Command::new(variable("RUSTC"));
    // The musl targets bring start files of their own, which this flag leaves out as `-nostartfiles` does elsewhere.
    if target.ends_with("musl") {
        compiler.args(["-C", "link-self-contained=no"]);
    }
    let link = [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-Wl,--build-id=none",
        "-Wl,-z,noseparate-code",
    ];
    for argument in link {
        compiler.args(["-C", &format!("link-arg={argument}")]);
    }
    for option in [
        "panic=abort",
        "opt-level=z",
        "strip=symbols",
        "relocation-model=static",
    ] {
        compiler.args(["-C", option]);
    }
    let status = compiler
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "bin",
            "--crate-name",
            "pause",
            source,
        ])
        .args(["--target", &target])
        .arg("-o")
        .arg(&output)
        .status()
        .expect("the compiler that runs this can be run");
    assert!(status.success(), "compiling {source} failed: {status}");
}
