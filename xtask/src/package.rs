//! `cargo xtask package`: what a release holds, in `out/`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::binary::{self, Profile};
use crate::run::output;
use crate::workspace;

/// Builds the release binary and writes it, its checksum, the man pages and the systemd unit to `out/`.
pub(crate) fn run() -> Result<()> {
    let program = binary::build(Profile::Release)?;
    let out = workspace::root().join("out");
    if out.exists() {
        std::fs::remove_dir_all(&out).with_context(|| format!("remove `{}`", out.display()))?;
    }
    let bin = out.join("bin/crioxide");
    copy(&program, &bin)?;
    copy_all(
        &workspace::root().join("contrib/systemd"),
        &out.join("lib/systemd/system"),
    )?;
    print_documents(&program, &out)?;
    for document in ["LICENSE", "CHANGELOG.md"] {
        copy(
            &workspace::root().join(document),
            &out.join("share/doc/crioxide").join(document),
        )?;
    }
    let sum = output(
        Command::new("sha256sum")
            .current_dir(&out)
            .arg("bin/crioxide"),
    )?;
    let file = out.join("SHA256SUMS");
    std::fs::write(&file, &sum).with_context(|| format!("write `{}`", file.display()))?;
    let size = std::fs::metadata(&bin)
        .with_context(|| format!("stat `{}`", bin.display()))?
        .len();
    println!("{}: {} KiB, {sum}", bin.display(), size / 1024);
    Ok(())
}

/// Manual pages, completions and the configuration template, which the program itself prints.
fn print_documents(program: &Path, out: &Path) -> Result<()> {
    for (arguments, place) in [
        (&["man", "8"][..], "share/man/man8/crioxide.8"),
        (&["man", "5"], "share/man/man5/crio.conf.5"),
        (
            &["complete", "bash"],
            "share/bash-completion/completions/crioxide",
        ),
        (
            &["complete", "fish"],
            "share/fish/vendor_completions.d/crioxide.fish",
        ),
        (&["complete", "zsh"], "share/zsh/site-functions/_crioxide"),
        (&["config", "--default"], "share/doc/crioxide/crio.conf"),
    ] {
        let text = output(Command::new(program).args(arguments))?;
        let path = out.join(place);
        let parent = path.parent().context("a file lies in a directory")?;
        std::fs::create_dir_all(parent)
            .with_context(|| format!("create `{}`", parent.display()))?;
        std::fs::write(&path, text).with_context(|| format!("write `{}`", path.display()))?;
    }
    Ok(())
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let entries = std::fs::read_dir(from).with_context(|| format!("list `{}`", from.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("list `{}`", from.display()))?;
        if entry.path().is_file() {
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().context("a file lies in a directory")?;
    std::fs::create_dir_all(parent).with_context(|| format!("create `{}`", parent.display()))?;
    std::fs::copy(from, to)
        .with_context(|| format!("copy `{}` to `{}`", from.display(), to.display()))?;
    Ok(())
}
