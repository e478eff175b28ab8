//! What cannot work: a clear error, and nothing left behind.

use std::path::Path;

use crioxide_sys::reap::Ending;
use serde_json::json;

use crate::bundles::{TestContainer, can_run};

/// Creates, expects a failure with this text, and that all is gone.
fn expect_failure(container: &TestContainer, expected: &str) {
    let error = container.create().err().expect("the creation was to fail");
    assert!(error.contains(expected), "{error:?} has no {expected:?}");
    assert!(!container.state_root().join(&container.id).exists());
    for hierarchy in ["memory", "devices", "pids"] {
        assert!(
            !Path::new("/sys/fs/cgroup")
                .join(hierarchy)
                .join(&container.id)
                .exists()
        );
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(container.directory.path().to_str().unwrap()));
}

#[test]
fn programs_that_cannot_run() {
    if !can_run() {
        return;
    }
    for (arguments, text) in [
        (
            json!(["foo"]),
            "exec: \"foo\": executable file not found in $PATH",
        ),
        (
            json!(["/no/such"]),
            "stat /no/such: no such file or directory",
        ),
        (
            json!(["/etc/passwd"]),
            "exec: \"/etc/passwd\": permission denied",
        ),
        (json!([]), "process args are empty"),
    ] {
        let mut container = TestContainer::new("");
        container.set("/process/args", arguments);
        expect_failure(&container, text);
    }
}

#[test]
fn wrong_format_is_told_on_stderr_after_the_start() {
    if !can_run() {
        return;
    }
    let mut container = TestContainer::new("");
    let program = container.rootfs().join("bin/garbage");
    std::fs::write(&program, [0x7f, b'E', b'L', b'F', 0, 0, 0]).unwrap();
    std::fs::set_permissions(
        &program,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    container.set("/process/args", json!(["/bin/garbage"]));
    let outcome = container.run().unwrap();
    assert_eq!(
        (outcome.output.as_str(), outcome.ending),
        (
            "exec /bin/garbage: exec format error\n",
            Ending::Exited(255)
        )
    );
}

#[test]
fn sources_and_paths_that_do_not_exist() {
    if !can_run() {
        return;
    }
    let mut container = TestContainer::new("true");
    container.add_mount(json!({"destination": "/x", "type": "bind", "source": "/no/such/source", "options": ["rbind"]}));
    expect_failure(&container, "open mount source `/no/such/source`");

    let mut container = TestContainer::new("true");
    container.set("/root/path", json!("nowhere"));
    expect_failure(&container, "nowhere");

    let mut container = TestContainer::new("true");
    container.set("/process/cwd", json!("/no/such/dir"));
    expect_failure(&container, "working directory `/no/such/dir`");

    let mut container = TestContainer::new("true");
    container.add_mount(
        json!({"destination": "/x", "type": "tmpfs", "source": "t", "options": ["nonsense=1"]}),
    );
    expect_failure(&container, "refuses option `nonsense`");
}

#[test]
fn taken_id_leaves_the_first_container_alone() {
    if !can_run() {
        return;
    }
    let container = TestContainer::new("echo still here");
    let waiting = container.create().unwrap();
    assert!(container.create().err().unwrap().contains("already exists"));
    crioxide_oci_runtime::OciRuntime::start(&container.runtime(), &container.id).unwrap();
    assert_eq!(waiting.finish().output, "still here\n");
}

#[test]
fn host_hook_that_fails_undoes_the_container() {
    if !can_run() {
        return;
    }
    let mut container = TestContainer::new("true");
    container.set(
        "/hooks",
        json!({"createRuntime": [
        {"path": "/bin/sh", "args": ["sh", "-c", "echo no luck >&2; exit 3"]}]}),
    );
    expect_failure(&container, "no luck");
    let mut container = TestContainer::new("true");
    container.set(
        "/hooks",
        json!({"createRuntime": [
        {"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]}),
    );
    expect_failure(&container, "did not end within 1 s");
}
