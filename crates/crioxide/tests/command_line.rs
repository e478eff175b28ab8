//! The program as its users call it.

#![allow(clippy::unwrap_used, reason = "the panic is the test's report")]

use std::process::{Command, Output};

fn crio(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crioxide"))
        .env_clear()
        .args(arguments)
        .output()
        .unwrap()
}

/// Standard output of a call that succeeds.
fn printed(arguments: &[&str]) -> String {
    let output = crio(arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a call that fails.
fn refused(arguments: &[&str]) -> String {
    let output = crio(arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

/// Compares with a checked-in file. `UPDATE_GOLDEN=1` writes it instead.
fn assert_golden(name: &str, actual: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        actual == expected,
        "{name} differs; UPDATE_GOLDEN=1 rewrites it:\n{actual}"
    );
}

#[test]
fn manual_pages() {
    assert_golden("crioxide.8", &printed(&["man"]));
    assert_golden("crio.conf.5", &printed(&["man", "5"]));
    assert_golden("crioxide.md", &printed(&["md"]));
}

#[test]
fn completions_know_flags_and_commands() {
    for arguments in [
        &["complete"][..],
        &["completion", "fish"],
        &["complete", "zsh"],
    ] {
        let script = printed(arguments);
        for word in ["enable-pod-events", "wait-for-nothing", "config"] {
            assert_eq!(
                script.contains(word),
                word != "wait-for-nothing",
                "{arguments:?} {word}"
            );
        }
    }
}

#[test]
fn version_has_the_labels_that_scripts_look_for() {
    let text = printed(&["version"]);
    let labels = "Version: GitCommit: GitTreeState: GoVersion: Compiler: Platform: Linkmode: BuildTags: SeccompEnabled: \
                  AppArmorEnabled:";
    for label in labels.split(' ') {
        assert!(
            text.lines().any(|line| line.starts_with(label)),
            "{label} is missing:\n{text}"
        );
    }
    assert!(!text.contains("Dependencies:"));
    assert!(printed(&["version", "-v"]).contains("\n                 clap "));
    assert!(printed(&["--version"]).starts_with(&format!(
        "crioxide version {}\nVersion: ",
        env!("CARGO_PKG_VERSION")
    )));
    assert!(printed(&["-h"]).contains("VERSION:\n   Version: "));
}

#[test]
fn version_as_json() {
    let text = printed(&["version", "--json"]);
    assert!(
        text.starts_with("{\n  \"version\": \"") && text.ends_with('}'),
        "{text}"
    );
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(object["seccompEnabled"].is_boolean() && object["appArmorEnabled"].is_boolean());
    assert!(object["buildTags"].is_array());
    assert_eq!(object["ldFlags"], "unknown");
    assert!(object.get("dependencies").is_none());
}

#[test]
fn config_takes_flags_files_and_variables() {
    let directory = tempfile::tempdir().unwrap();
    let drop_ins = directory.path().join("conf.d/deep");
    std::fs::create_dir_all(&drop_ins).unwrap();
    let file = directory.path().join("crio.conf");
    std::fs::write(
        &file,
        "[crio.image]\npause_image = \"file\"\nglobal_auth_file = \"/file\"\nnew = 1\n",
    )
    .unwrap();
    std::fs::write(
        drop_ins.join("no-suffix"),
        "[crio.image]\npause_image = \"drop-in\"\n",
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_crioxide"))
        .env_clear()
        .env("CONTAINER_PAUSE_COMMAND", "/variable")
        .env("CONTAINER_DEFAULT_TRANSPORT", "hidden-by-the-flag")
        .env("CONTAINER_CONFIG_DIR", directory.path().join("conf.d"))
        .args([
            "--config",
            file.to_str().unwrap(),
            "--default-transport=flag",
            "config",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "pause_image = \"drop-in\"",
        "global_auth_file = \"/file\"",
        "pause_command = \"/variable\"",
        "default_transport = \"flag\"",
        "# log_level = \"info\"",
    ] {
        assert!(
            text.lines().any(|printed| printed == line),
            "{line}\n{text}"
        );
    }
    let warnings = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        warnings,
        format!(
            "{}:4: unknown key `crio.image.new` is ignored\n",
            file.display()
        )
    );
}

#[test]
fn default_config_has_everything_live() {
    let text = printed(&[
        "-c",
        "",
        "-d",
        "",
        "--log-level",
        "debug",
        "config",
        "--default",
    ]);
    assert!(text.contains("\nlog_level = \"info\"\n"));
    assert!(
        !text
            .lines()
            .any(|line| line.starts_with("# ") && line.contains(" = ") && !line.contains(':')),
        "{text}"
    );
}

#[test]
fn bad_usage_is_refused_in_crios_words() {
    for (arguments, message) in [
        (&["frob"][..], "command \\\"frob\\\" not supported"),
        (&["--frob"], "flag provided but not defined: -frob"),
        (
            &["--ctr-stop-timeout", "foo", "config"],
            "invalid value \\\"foo\\\" for flag -ctr-stop-timeout: parse error",
        ),
        (
            &["--pids-limit=99999999999999999999", "config"],
            "value out of range",
        ),
        (
            &["--selinux=perhaps", "config"],
            "invalid boolean value \\\"perhaps\\\" for -selinux: parse error",
        ),
        (
            &["--log-level=loud", "config"],
            "not a valid logrus Level: \\\"loud\\\"",
        ),
        (
            &["--log-format=xml", "config"],
            "unknown log-format \\\"xml\\\"",
        ),
        (&["--log-filter=(", "config"], "crio.runtime.log_filter"),
        (&["--runtimes=a:b", "config"], "flag --runtimes"),
        (
            &["-c", "/nonexistent", "config"],
            "configuration file `/nonexistent` does not exist",
        ),
        (
            &["status", "--socket", "/nonexistent", "info"],
            "connect to the daemon at `/nonexistent`",
        ),
        (
            &["status", "-s", "/nonexistent", "containers"],
            "the argument --id cannot be empty",
        ),
    ] {
        let printed = refused(arguments);
        assert!(printed.contains(message), "{arguments:?}: {printed}");
        assert!(
            printed.starts_with("time=\"") && printed.contains(" level=fatal msg="),
            "{printed}"
        );
    }
}

#[test]
fn help_is_no_failure() {
    for arguments in [&["help"][..], &["h"], &["--help"], &["status"]] {
        assert!(
            printed(arguments).contains("Usage: crioxide"),
            "{arguments:?}"
        );
    }
    assert_eq!(printed(&["publish", "--topic", "x"]), "");
}

/// A store below `directory` by flags that touch nothing else.
fn store_flags(directory: &std::path::Path) -> Vec<String> {
    let path = |name: &str| directory.join(name).display().to_string();
    let mut flags = vec![
        "-c".to_owned(),
        String::new(),
        "-d".to_owned(),
        String::new(),
    ];
    for (flag, name) in [
        ("--root", "root"),
        ("--runroot", "run"),
        ("--version-file", "version"),
        ("--version-file-persist", "version-persist"),
        ("--clean-shutdown-file", "clean"),
    ] {
        flags.extend([flag.to_owned(), path(name)]);
    }
    flags.extend([
        "--internal-wipe=false".to_owned(),
        "--log-level=debug".to_owned(),
    ]);
    flags
}

/// Whether this process may mount, which opening a store needs.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

#[test]
fn an_empty_store_is_healthy_and_wipes_to_nothing() {
    if !is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let flags = store_flags(directory.path());
    let run = |words: &[&str]| {
        let mut arguments: Vec<&str> = flags.iter().map(String::as_str).collect();
        arguments.extend(words);
        let output = crio(&arguments);
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (healthy, log) = run(&["check"]);
    assert!(healthy, "{log}");
    assert!(log.contains("root has errors: false"), "{log}");
    let (wiped, log) = run(&["wipe", "--force"]);
    assert!(wiped, "{log}");

    // An image whose layer is missing is found, reported and removed.
    let record = format!(
        "[{{\"id\":\"{0}\",\"digest\":\"sha256:{0}\",\"layer\":\"{0}\"}}]",
        "a".repeat(64)
    );
    std::fs::write(
        directory.path().join("root/overlay-images/images.json"),
        record,
    )
    .unwrap();
    let (healthy, log) = run(&["check", "--quick"]);
    assert!(
        !healthy && log.contains("0 layer errors, 0 read-only layer errors, 1 image errors"),
        "{log}"
    );
    let (repaired, log) = run(&["check", "--repair"]);
    assert!(repaired, "{log}");
    assert!(run(&["check"]).0);
}
