//! The command-line runtime against scripts that behave well, badly and not at all.

#![expect(
    clippy::unwrap_used,
    reason = "a test may unwrap: the panic is its report"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use crioxide_oci_runtime::{
    CgroupDriver, CommandRuntime, CommandTimeouts, ContainerStatus, DeleteMode, KillScope,
    OciRuntime, RuntimeError,
};

fn script(dir: &tempfile::TempDir, body: &str) -> CommandRuntime {
    let path: PathBuf = dir.path().join("runtime");
    let text = format!(
        "#!/bin/sh\necho \"$@\" >> {}/calls\n{body}\n",
        dir.path().display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    CommandRuntime::new(path, "/r", CgroupDriver::Systemd)
}

fn calls(dir: &tempfile::TempDir) -> String {
    fs::read_to_string(dir.path().join("calls")).unwrap()
}

#[test]
fn arguments_follow_the_runc_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = script(&dir, "exit 0");
    runtime.start("c1").unwrap();
    runtime.kill("c1", 15, KillScope::All).unwrap();
    runtime.delete("c1", DeleteMode::Force).unwrap();
    assert_eq!(
        calls(&dir),
        "--root=/r --systemd-cgroup start c1\n--root=/r --systemd-cgroup kill --all c1 15\n\
         --root=/r --systemd-cgroup delete --force c1\n"
    );
}

#[test]
fn a_state_document_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = script(
        &dir,
        r#"echo '{"ociVersion":"1.0.2","id":"c1","status":"running","pid":42,"bundle":"/b"}'"#,
    );
    let state = runtime.state("c1").unwrap();
    assert_eq!((state.status, state.pid), (ContainerStatus::Running, 42));
}

#[test]
fn failures_carry_the_stderr_and_known_texts_become_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = script(&dir, "echo 'boom: disk on fire' >&2; exit 3");
    let error = runtime.start("c1").unwrap_err();
    assert!(error.to_string().contains("disk on fire"), "{error}");
    assert!(error.to_string().contains("exit status: 3"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let runtime = script(&dir, "echo 'container does not exist' >&2; exit 1");
    assert!(matches!(runtime.state("c1"), Err(RuntimeError::NotFound { id }) if id == "c1"));
    runtime.delete("c1", DeleteMode::Force).unwrap();
}

#[test]
fn a_hanging_runtime_and_its_children_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = script(
        &dir,
        &format!(
            "sleep 1000 & echo $! > {}/child; wait",
            dir.path().display()
        ),
    )
    .with_timeouts(CommandTimeouts {
        slow: Duration::from_secs(2),
        quick: Duration::from_millis(500),
    });
    assert!(matches!(
        runtime.state("c1"),
        Err(RuntimeError::TimedOut { .. })
    ));
    let pid: i32 = fs::read_to_string(dir.path().join("child"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let gone = |pid: i32| {
        fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    };
    // The kill is delivered asynchronously; a survivor would keep this loop going until the test runner gives up.
    while !gone(pid) {
        std::thread::yield_now();
    }
}

#[test]
fn a_background_child_holding_the_pipes_does_not_delay_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = script(
        &dir,
        &format!(
            "sleep 300 & echo $! > {}/child\nexit 0",
            dir.path().display()
        ),
    )
    .with_timeouts(CommandTimeouts {
        slow: Duration::from_secs(250),
        quick: Duration::from_secs(250),
    });
    runtime.start("c1").unwrap();
    let pid: i32 = fs::read_to_string(dir.path().join("child"))
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // Still alive: the answer came while the pipes were open.
    assert!(fs::metadata(format!("/proc/{pid}")).is_ok());
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

#[test]
fn update_passes_the_document_on_stdin() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = script(&dir, &format!("cat > {}/document", dir.path().display()));
    let mut pids = oci_spec::runtime::LinuxPids::default();
    pids.set_limit(7);
    let mut resources = oci_spec::runtime::LinuxResources::default();
    resources.set_pids(Some(pids));
    runtime.update("c1", &resources).unwrap();
    assert!(
        fs::read_to_string(dir.path().join("document"))
            .unwrap()
            .contains(r#""limit":7"#)
    );
    assert!(calls(&dir).ends_with("update --resources=- c1\n"));
}

#[test]
fn a_missing_binary_is_named() {
    let runtime = CommandRuntime::new("/nonexistent/runtime", "/r", CgroupDriver::Cgroupfs);
    let error = runtime.start("c1").unwrap_err();
    assert!(matches!(error, RuntimeError::Launch { .. }));
    assert!(error.to_string().contains("/nonexistent/runtime"));
}

#[test]
fn real_runtimes_report_unknown_containers_and_versions() {
    for binary in ["/usr/bin/runc", "/usr/sbin/runc", "/usr/bin/crun"] {
        if !std::path::Path::new(binary).exists() {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let runtime = CommandRuntime::new(binary, dir.path(), CgroupDriver::Cgroupfs);
        assert!(!runtime.version().unwrap().is_empty());
        assert!(
            matches!(
                runtime.state("unknown-container"),
                Err(RuntimeError::NotFound { .. })
            ),
            "{binary}"
        );
        runtime
            .delete("unknown-container", DeleteMode::Force)
            .unwrap();
    }
}
