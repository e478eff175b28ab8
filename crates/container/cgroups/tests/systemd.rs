//! Scopes and slices of a running systemd. Needs root and systemd as the first process.

#![expect(
    clippy::unwrap_used,
    reason = "a test may unwrap: the panic is its report"
)]

use std::process::{Child, Command, Stdio};

use crioxide_cgroups::{Cgroup, CgroupLayout, CgroupPath, CreateCgroupError, Driver};
use oci_spec::runtime::LinuxResources;
use rustix::process::Pid;

fn layout() -> Option<&'static CgroupLayout> {
    if !rustix::process::geteuid().is_root()
        || !std::path::Path::new("/run/systemd/system").is_dir()
    {
        eprintln!("skipped: needs root and systemd");
        return None;
    }
    Some(CgroupLayout::host().unwrap())
}

fn sleeper() -> Child {
    Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn unit_state(unit: &str) -> String {
    let output = Command::new("systemctl")
        .args(["show", "-p", "ActiveState", "--value", unit])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

#[test]
fn a_scope_holds_its_process_under_limits() {
    let Some(layout) = layout() else { return };
    let name = format!("scope{}", std::process::id());
    let path = CgroupPath::parse(
        &format!("system.slice:crioxide-test:{name}"),
        Driver::Systemd,
    )
    .unwrap();
    let unit = format!("crioxide-test-{name}.scope");
    let limits = resources(
        r#"{"cpu":{"shares":512,"quota":50000,"period":100000},"memory":{"limit":67108864},"pids":{"limit":33},
            "devices":[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}]}"#,
    );
    let mut child = sleeper();
    let member = Pid::from_child(&child);
    let (group, warnings) = Cgroup::create(layout, path, Some(&limits), Some(member)).unwrap();
    if !layout.is_unified() {
        // systemd moves the process in its own hierarchy only; the others are joined as a runtime does.
        group.add(member).unwrap();
    }
    assert_eq!(unit_state(&unit), "active");
    assert_eq!(group.processes().unwrap(), [member], "{warnings:?}");
    let stats = group.stats();
    assert_eq!(stats.memory.unwrap().limit, Some(67_108_864));
    assert_eq!(stats.task_limit, Some(33));
    // A reload must not undo what was set besides systemd.
    assert!(
        Command::new("systemctl")
            .arg("daemon-reload")
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(group.stats().memory.unwrap().limit, Some(67_108_864));
    group.remove().unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(!group.exists());
    assert_ne!(unit_state(&unit), "active");
    group.remove().unwrap();
}

#[test]
fn a_slice_outlives_its_scopes() {
    let Some(layout) = layout() else { return };
    let slice = format!("crioxidetest-pod{}.slice", std::process::id());
    let pod = CgroupPath::parse(&slice, Driver::Systemd).unwrap();
    let limits = resources(r#"{"memory":{"limit":134217728}}"#);
    let (pod, _) = Cgroup::create(layout, pod, Some(&limits), None).unwrap();
    assert_eq!(pod.stats().memory.unwrap().limit, Some(134_217_728));
    let mut child = sleeper();
    let path = CgroupPath::parse(&format!("{slice}:crioxide:inner"), Driver::Systemd).unwrap();
    let (inner, _) = Cgroup::create(layout, path, None, Some(Pid::from_child(&child))).unwrap();
    assert_eq!(pod.processes().unwrap().len(), 1);
    // Making it once more is what a restarted daemon does.
    Cgroup::create(layout, pod.path().clone(), Some(&limits), None).unwrap();
    inner.remove().unwrap();
    child.wait().unwrap();
    assert!(pod.exists());
    pod.remove().unwrap();
    assert!(!pod.exists());
    assert_ne!(unit_state(&slice), "active");
}

/// Set in the process of its own that [`a_process_survives_that_its_own_scope_cannot_be_made`] starts.
const OWN_SCOPE: &str = "CRIOXIDE_TEST_OWN_SCOPE";

#[test]
fn a_process_survives_that_its_own_scope_cannot_be_made() {
    let Some(layout) = layout() else { return };
    if std::env::var_os(OWN_SCOPE).is_some() {
        return make_a_scope_around_this_process_with_a_limit_that_fails(layout);
    }
    // The scope takes in the whole process, other tests of this program included.
    let test = "a_process_survives_that_its_own_scope_cannot_be_made";
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(OWN_SCOPE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

fn make_a_scope_around_this_process_with_a_limit_that_fails(layout: &'static CgroupLayout) {
    let name = format!("own{}", std::process::id());
    let path = format!("system.slice:crioxide-test:{name}");
    let path = CgroupPath::parse(&path, Driver::Systemd).unwrap();
    let limits = resources(r#"{"memory":{"limit":1073741824,"swap":104857600}}"#);
    let error = Cgroup::create(layout, path.clone(), Some(&limits), None).unwrap_err();
    assert!(matches!(error, CreateCgroupError::Limits { .. }), "{error}");
    assert!(!Cgroup::at(layout, path).exists());
    assert_ne!(unit_state(&format!("crioxide-test-{name}.scope")), "active");
}
