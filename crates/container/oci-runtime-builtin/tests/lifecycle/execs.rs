//! Further processes in a running container.

use crioxide_oci_runtime::{KillScope, OciRuntime};
use crioxide_sys::reap::Ending;
use serde_json::{Value, json};

use crate::bundles::{TestContainer, can_run, exec_in};

fn shell(script: &str) -> Value {
    json!({"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", script], "env": ["PATH=/bin"], "cwd": "/"})
}

#[test]
fn process_joins_the_container() {
    if !can_run() {
        return;
    }
    let container = TestContainer::new("exec sleep 1000");
    let waiting = container.create().unwrap();
    container.runtime().start(&container.id).unwrap();
    let outcome = exec_in(
        &container,
        shell("hostname; cat /proc/1/cmdline | head -c 5; echo; exit 4"),
    )
    .unwrap();
    assert_eq!(
        (outcome.output.as_str(), outcome.ending),
        ("testhost\nsleep\n", Ending::Exited(4))
    );

    let outcome = exec_in(
        &container,
        shell("cat /proc/self/cgroup; ls /proc/$$/fd; grep CapInh /proc/self/status"),
    )
    .unwrap();
    assert!(
        outcome
            .output
            .contains(&format!("memory:/{}", container.id)),
        "{}",
        outcome.output
    );
    assert!(
        outcome.output.contains("CapInh:\t0000000000000000"),
        "{}",
        outcome.output
    );

    let mut as_user = shell("id -u; id -G");
    as_user["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7]});
    let outcome = exec_in(&container, as_user).unwrap();
    assert!(outcome.output.starts_with("1000\n"), "{}", outcome.output);

    let error = exec_in(
        &container,
        json!({"user": {"uid": 0, "gid": 0}, "args": ["nope"], "cwd": "/"}),
    )
    .unwrap_err();
    assert!(
        error.contains("executable file not found in $PATH"),
        "{error}"
    );
    let mut escape = shell("true");
    for number in 3..16 {
        escape["cwd"] = json!(format!("/proc/self/fd/{number}"));
        assert!(
            exec_in(&container, escape.clone()).is_err(),
            "descriptor {number} was a way out"
        );
    }
    container
        .runtime()
        .kill(&container.id, 9, KillScope::All)
        .unwrap();
    waiting.finish();
    assert!(
        exec_in(&container, shell("true"))
            .unwrap_err()
            .contains("stopped")
    );
}
