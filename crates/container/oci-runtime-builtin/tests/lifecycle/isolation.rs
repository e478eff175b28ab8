//! What a container sees of mounts, users, devices and limits.

use crioxide_sys::reap::Ending;
use serde_json::json;

use crate::bundles::{TestContainer, can_run};

#[test]
fn mounts_are_as_configured() {
    if !can_run() {
        return;
    }
    let mut container = TestContainer::new(
        "cat /data/file; touch /data/new 2>/dev/null || echo data is read-only; \
         touch /proc/sys/x 2>/dev/null || echo proc sys is read-only; cat /proc/keys; ls /sys/firmware; \
         touch /x 2>/dev/null || echo root is read-only; grep -c ' / / ' /proc/self/mountinfo; ls -d /sys/fs/cgroup/memory; \
         touch /sys/fs/cgroup/memory/x 2>/dev/null || echo cgroup is read-only",
    );
    let source = container.directory.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "content\n").unwrap();
    container.add_mount(json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind", "ro"]}));
    container.set("/root/readonly", json!(true));
    let output = container.run().unwrap().output;
    assert_eq!(
        output,
        "content\ndata is read-only\nproc sys is read-only\nroot is read-only\n0\n/sys/fs/cgroup/memory\ncgroup is read-only\n"
    );
    assert!(!source.join("new").exists());
}

#[test]
fn process_has_its_user() {
    if !can_run() {
        return;
    }
    let mut container =
        TestContainer::new("id -u; id -g; id -G; echo $HOME; umask; grep CapEff /proc/self/status");
    container.set(
        "/process/user",
        json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 0o077}),
    );
    container.set("/process/noNewPrivileges", json!(true));
    let outcome = container.run().unwrap();
    let lines: Vec<&str> = outcome.output.lines().collect();
    assert_eq!(lines[..2], ["1000", "1000"]);
    assert_eq!(
        lines[2]
            .split(' ')
            .collect::<std::collections::BTreeSet<_>>(),
        ["1000", "5", "6"].into()
    );
    assert_eq!(lines[3..5], ["/home/web", "0077"]);
}

#[test]
fn sysctls_and_limits_are_set() {
    if !can_run() {
        return;
    }
    let mut container =
        TestContainer::new("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax; ulimit -n");
    container.set(
        "/linux/sysctl",
        json!({"net.ipv4.ip_forward": "1", "kernel.msgmax": "4242"}),
    );
    container.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 123, "hard": 200}]),
    );
    assert_eq!(container.run().unwrap().output, "1\n4242\n123\n");
}

#[test]
fn filtered_calls_fail_with_the_profiles_errno() {
    if !can_run() {
        return;
    }
    for no_new_privileges in [false, true] {
        let mut container = TestContainer::new(
            "cat /etc/passwd >/dev/null && mkdir /tmp/x; hostname other; echo $?",
        );
        container.set("/process/noNewPrivileges", json!(no_new_privileges));
        container.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["sethostname", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 71}]}));
        let output = container.run().unwrap().output;
        assert!(
            output.contains("Protocol error") && output.ends_with("1\n"),
            "{output}"
        );
    }
}

#[test]
fn user_namespace_maps_root_away() {
    if !can_run() {
        return;
    }
    let mut container = TestContainer::new(
        "id -u; cat /proc/self/uid_map; stat -c %F /dev/null; echo x > /dev/null; touch /tmp/mine; hostname",
    );
    let namespaces = json!([{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
        {"type": "user"}]);
    container.set("/linux/namespaces", namespaces);
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    container
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    for entry in [
        container.rootfs(),
        container.rootfs().join("tmp"),
        container.rootfs().join("dev"),
    ] {
        std::os::unix::fs::chown(entry, Some(100_000), Some(100_000)).unwrap();
    }
    let outcome = container.run().unwrap();
    let mut lines = outcome.output.lines();
    assert_eq!(lines.next(), Some("0"), "{}", outcome.output);
    assert_eq!(
        lines.next().unwrap().split_whitespace().collect::<Vec<_>>(),
        ["0", "100000", "65536"]
    );
    assert_eq!(lines.next(), Some("character special file"));
    assert_eq!(lines.next(), Some("testhost"));
    assert_eq!(outcome.ending, Ending::Exited(0));
    let made = std::fs::metadata(container.rootfs().join("tmp/mine")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 100_000);
}

#[test]
fn hooks_run_in_order_and_place() {
    if !can_run() {
        return;
    }
    let mut container = TestContainer::new("echo main");
    let log = container.directory.path().join("log");
    let hook = |word: &str| {
        json!([{"path": "/bin/sh", "args": ["sh", "-c",
        format!("grep -q '\"id\":' && echo {word} >> {}", log.display())], "env": ["PATH=/bin:/usr/bin"]}])
    };
    container.set("/hooks", json!({"prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
        "createContainer": hook("createContainer"), "poststart": hook("poststart"), "poststop": hook("poststop"),
        "startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo started > /tmp/started"]}]}));
    container.run().unwrap();
    crioxide_oci_runtime::OciRuntime::delete(
        &container.runtime(),
        &container.id,
        crioxide_oci_runtime::DeleteMode::Stopped,
    )
    .unwrap();
    let order = std::fs::read_to_string(&log).unwrap();
    assert_eq!(
        order,
        "prestart\ncreateRuntime\ncreateContainer\npoststart\npoststop\n"
    );
    assert_eq!(
        std::fs::read_to_string(container.rootfs().join("tmp/started")).unwrap(),
        "started\n"
    );
}
