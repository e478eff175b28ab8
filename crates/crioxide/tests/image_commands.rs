//! `image load`, `list` and `remove` on a store of their own.

#![allow(clippy::unwrap_used, reason = "the panic is the test's report")]

use std::path::Path;
use std::process::{Command, Output};

fn image(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crioxide"))
        .env_clear()
        .env("CONTAINERS_STORAGE_CONF", directory.join("storage.conf"))
        .args(["--config-dir", "", "--registries-conf-dir", ""])
        .arg("--registries-conf")
        .arg(directory.join("registries.conf"))
        .arg("image")
        .args(arguments)
        .output()
        .unwrap()
}

/// Standard output and standard error of a call that succeeds.
fn done(directory: &Path, arguments: &[&str]) -> (String, String) {
    let output = image(directory, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {error}");
    (String::from_utf8(output.stdout).unwrap(), error)
}

#[test]
fn an_image_is_loaded_listed_and_removed() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    let storage = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{0}/root\"\nrunroot = \"{0}/run\"\n",
        base.display()
    );
    std::fs::write(base.join("storage.conf"), storage).unwrap();
    std::fs::write(base.join("registries.conf"), "").unwrap();
    std::fs::write(base.join("program"), b"\x7fELF without headers").unwrap();
    let layout = base.join("layout");
    crioxide_demo_image::write_layout(&layout, &base.join("program")).unwrap();
    let source = format!("oci:{}", layout.display());

    let (id, progress) = done(base, &["load", &source]);
    let id = id.trim();
    assert!(
        id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    // Nobody looks at a terminal: whole lines, nothing that moves a cursor.
    assert!(
        progress.contains(": 1 layer from oci:") && progress.contains(": done, "),
        "{progress}"
    );
    assert!(!progress.contains(['\r', '\x1b']), "{progress:?}");

    let (again, progress) = done(base, &["load", &source, "--name", "second.example/name:2"]);
    assert_eq!(again.trim(), id);
    assert!(progress.contains(": already there"), "{progress}");

    let (list, _) = done(base, &["list"]);
    for name in [crioxide_demo_image::REFERENCE, "second.example/name:2"] {
        let line = list.lines().find(|line| line.starts_with(name));
        assert!(
            line.is_some_and(|line| line.contains(&id[..13])),
            "{name} in:\n{list}"
        );
    }

    let (removed, _) = done(base, &["rm", "second.example/name:2"]);
    assert_eq!(removed, "Untagged: second.example/name:2\n");
    let (removed, _) = done(base, &["rm", &id[..13]]);
    assert_eq!(removed, format!("Deleted: {id}\n"));
    let (list, _) = done(base, &["list"]);
    assert_eq!(list.lines().count(), 1, "only the head is left:\n{list}");

    for (arguments, expected) in [
        (
            &["rm", "no.such/image:1"][..],
            "image no.such/image:1 not found",
        ),
        (&["load", "tar:/x"], "none of oci:PATH"),
        (&["load", "oci:/nonexistent"], "/nonexistent"),
    ] {
        let output = image(base, arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && error.contains(expected),
            "{arguments:?}: {error}"
        );
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(base.to_str().unwrap()),
        "a mount is left:\n{mounts}"
    );
}
