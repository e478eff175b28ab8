//! Real cgroups on this host, whichever version it has. Needs root; every test has its own names.

#![expect(
    clippy::unwrap_used,
    reason = "a test may unwrap: the panic is its report"
)]

use std::io::Write;
use std::process::{Child, Command, Stdio};

use crioxide_cgroups::{
    Cgroup, CgroupLayout, CgroupPath, CreateCgroupError, Driver, MemoryLimits, StatsBuffer,
    StatsReader, default_device_rules,
};
use oci_spec::runtime::LinuxResources;
use rustix::process::Pid;

fn layout() -> Option<&'static CgroupLayout> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return None;
    }
    match CgroupLayout::host() {
        Ok(layout) => Some(layout),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn path(test: &str) -> CgroupPath {
    let text = format!("/crioxide-test-{}/{test}", std::process::id());
    CgroupPath::parse(&text, Driver::Cgroupfs).unwrap()
}

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}

/// Removes the cgroup when the test ends, however it ends, and the common parent with the last one.
struct Owned(Cgroup);

impl Drop for Owned {
    fn drop(&mut self) {
        let removed = self.0.remove();
        for directory in self.0.directories() {
            // Fails while another test of this process still has its own group there.
            let _ = std::fs::remove_dir(directory.parent().unwrap());
        }
        if !std::thread::panicking() {
            removed.unwrap();
            assert!(!self.0.exists());
        }
    }
}

/// A shell that waits for a line, then runs `script`.
fn waiting_shell(script: &str) -> Child {
    Command::new("/bin/sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn put_and_go(group: &Cgroup, child: &mut Child) {
    group.add(Pid::from_child(child)).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
}

#[test]
fn limits_are_in_force_and_read_back() {
    let Some(layout) = layout() else { return };
    let wanted = resources(
        r#"{"cpu":{"shares":512,"quota":20000,"period":100000,"cpus":"0"},
            "memory":{"limit":67108864},"pids":{"limit":20}}"#,
    );
    let (group, warnings) = Cgroup::create(layout, path("limits"), Some(&wanted), None).unwrap();
    let group = Owned(group);
    let stats = group.0.stats();
    if layout.has_controller("memory") {
        assert_eq!(
            stats.memory.as_ref().unwrap().limit,
            Some(67_108_864),
            "{warnings:?}"
        );
    }
    if layout.has_controller("pids") {
        assert_eq!(stats.task_limit, Some(20));
        assert_eq!(stats.tasks, Some(0));
    }
    // Lower and raise again: the order of memory and swap limits differs.
    for limit in [33_554_432, 134_217_728] {
        let update = resources(&format!(
            r#"{{"memory":{{"limit":{limit},"swap":{limit}}}}}"#
        ));
        group.0.apply(&update).unwrap();
        assert_eq!(group.0.stats().memory.unwrap().limit, Some(limit));
    }
}

#[test]
fn killed_members_are_not_kept_waiting_for_a_processor() {
    let Some(layout) = layout() else { return };
    if !layout.has_controller("cpu") {
        eprintln!("skipped: no cpu controller");
        return;
    }
    let little = resources(r#"{"cpu":{"shares":2,"quota":1000,"period":100000}}"#);
    let (group, _) = Cgroup::create(layout, path("hurry"), Some(&little), None).unwrap();
    let group = Owned(group);
    let directory = group.0.controller_directory("cpu").unwrap();
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).unwrap();
    let (share, quota, before, after) = match layout.is_unified() {
        true => (
            "cpu.weight",
            "cpu.max",
            ("1", "1000 100000"),
            ("10000", "max 100000"),
        ),
        false => (
            "cpu.shares",
            "cpu.cfs_quota_us",
            ("2", "1000"),
            ("262144", "-1"),
        ),
    };
    assert_eq!((read(share).trim(), read(quota).trim()), before);
    group.0.hurry();
    assert_eq!((read(share).trim(), read(quota).trim()), after);
}

#[test]
fn a_reader_outlives_its_cgroup_and_says_so() {
    let Some(layout) = layout() else { return };
    let group = Owned(
        Cgroup::create(layout, path("reader"), None, None)
            .unwrap()
            .0,
    );
    let reader = StatsReader::open(&group.0).unwrap();
    assert!(reader.descriptors() > 2, "{reader:?}");
    let mut buffer = StatsBuffer::default();
    let mut child = waiting_shell("while :; do :; done");
    put_and_go(&group.0, &mut child);
    // The same open files show what has changed since.
    let used = |buffer: &mut StatsBuffer| reader.read(reader.limits(), buffer).unwrap();
    while used(&mut buffer)
        .cpu_usage
        .is_some_and(|used| used.is_zero())
    {
        std::thread::yield_now();
    }
    assert_eq!(used(&mut buffer).tasks, Some(1));
    group.0.kill_all(rustix::process::Signal::KILL).unwrap();
    child.wait().unwrap();
    drop(group);
    assert_eq!(reader.read(MemoryLimits::default(), &mut buffer), None);
}

#[test]
fn members_are_counted_frozen_and_killed() {
    let Some(layout) = layout() else { return };
    let group = Owned(
        Cgroup::create(layout, path("members"), None, None)
            .unwrap()
            .0,
    );
    let mut child = waiting_shell("while :; do :; done");
    put_and_go(&group.0, &mut child);
    assert_eq!(group.0.processes().unwrap(), [Pid::from_child(&child)]);
    while group.0.stats().cpu_usage.is_some_and(|used| used.is_zero()) {
        std::thread::yield_now();
    }
    group.0.freeze().unwrap();
    assert!(group.0.is_frozen());
    let first = group.0.stats().cpu_usage;
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(group.0.stats().cpu_usage, first);
    group.0.thaw().unwrap();
    assert!(!group.0.is_frozen());
    assert!(matches!(
        Cgroup::create(layout, path("members"), None, None),
        Err(CreateCgroupError::InUse { members: 1, .. })
    ));
    // Removal ends what still runs.
    drop(group);
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_frozen_group_with_children_of_its_own_is_removed() {
    let Some(layout) = layout() else { return };
    let group = Owned(
        Cgroup::create(layout, path("nested"), None, None)
            .unwrap()
            .0,
    );
    for directory in group.0.directories() {
        std::fs::create_dir_all(directory.join("inner/most")).unwrap();
    }
    let mut child = waiting_shell("sleep 1000");
    put_and_go(&group.0, &mut child);
    group.0.freeze().unwrap();
    drop(group);
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_namesake_in_the_other_version_is_removed_too() {
    let Some(layout) = layout() else { return };
    let CgroupLayout::Legacy {
        beside: Some(beside),
        ..
    } = layout
    else {
        eprintln!("skipped: needs a host with both versions of cgroups");
        return;
    };
    let group = Owned(
        Cgroup::create(layout, path("beside"), None, None)
            .unwrap()
            .0,
    );
    let other = beside.join(path("beside").directory());
    std::fs::create_dir_all(other.join("inner")).unwrap();
    drop(group);
    assert!(!other.exists());
    std::fs::remove_dir(other.parent().unwrap()).unwrap();
}

#[test]
fn an_oom_kill_is_counted_and_announced() {
    let Some(layout) = layout() else { return };
    if !layout.has_controller("memory") {
        eprintln!("skipped: no memory controller");
        return;
    }
    let wanted = resources(r#"{"memory":{"limit":16777216,"swap":16777216}}"#);
    let group = Owned(
        Cgroup::create(layout, path("oom"), Some(&wanted), None)
            .unwrap()
            .0,
    );
    assert_eq!(group.0.oom_kills(), Some(0));
    let watch = group.0.watch_oom().unwrap();
    let mut child = waiting_shell("x=$(head -c 200000000 /dev/zero | tr '\\0' 'a'); echo $x");
    put_and_go(&group.0, &mut child);
    let mut wait = [rustix::event::PollFd::new(&watch, watch.interest())];
    let minute = rustix::time::Timespec {
        tv_sec: 60,
        tv_nsec: 0,
    };
    assert_eq!(rustix::event::poll(&mut wait, Some(&minute)).unwrap(), 1);
    watch.acknowledge();
    drop(child.stdout.take());
    let _ = child.wait();
    assert!(group.0.oom_kills().unwrap() >= 1);
}

#[test]
fn device_rules_keep_other_devices_out() {
    let Some(layout) = layout() else { return };
    let mut wanted = resources(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#);
    wanted
        .devices_mut()
        .as_mut()
        .unwrap()
        .extend(default_device_rules());
    let group = Owned(
        Cgroup::create(layout, path("devices"), Some(&wanted), None)
            .unwrap()
            .0,
    );
    if !layout.is_unified() && !layout.has_controller("devices") {
        eprintln!("skipped: no device controller");
        return;
    }
    // /dev/kmsg (1:11) is in no rule; /dev/null is.
    let mut child = waiting_shell("echo ok > /dev/null && ! (exec 3</dev/kmsg)");
    put_and_go(&group.0, &mut child);
    assert!(child.wait().unwrap().success());
    // A second set of rules replaces the first.
    let wider = resources(r#"{"devices":[{"allow":true,"access":"rwm"}]}"#);
    group.0.apply(&wider).unwrap();
    let mut child = waiting_shell("exec 3</dev/kmsg");
    put_and_go(&group.0, &mut child);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_bad_limit_leaves_nothing_behind() {
    let Some(layout) = layout() else { return };
    let wanted = resources(r#"{"cpu":{"cpus":"4000-5000"}}"#);
    if !layout.has_controller("cpuset") {
        eprintln!("skipped: no cpuset controller");
        return;
    }
    let path = path("bad");
    // Gives back the common parent, which stays.
    let _parent = Owned(Cgroup::at(layout, path.clone()));
    let error = Cgroup::create(layout, path.clone(), Some(&wanted), None).unwrap_err();
    assert!(matches!(error, CreateCgroupError::Limits { .. }), "{error}");
    assert!(!Cgroup::at(layout, path).exists());
}
