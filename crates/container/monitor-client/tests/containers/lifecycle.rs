//! Exits: codes, records, memory kills, and who learns of them.

use std::fs;

use crioxide_monitor_client::{Monitor, MonitorEvent};
use crioxide_oci_runtime::KillScope;
use serde_json::json;

use crate::bundle::process;
use crate::pod::{Pod, Runtime, eventually};

pub(crate) async fn exit_codes_and_records(runtime: Runtime) {
    let mut pod = Pod::start(&runtime).await;
    for (short, script, code) in [("zero", "exit 0", 0), ("three", "exit 3", 3)] {
        pod.run(short, script).await;
        let exit = pod.exit(short).await;
        assert_eq!(
            (exit.exit_code, exit.signal, exit.oom_killed),
            (code, None, false)
        );
        assert_eq!(
            fs::read_to_string(pod.exit_file(short)).unwrap(),
            code.to_string()
        );
        let persistent = pod.bundle(short).join("persistent/exit");
        assert_eq!(fs::read_to_string(persistent).unwrap(), code.to_string());
        assert!(!pod.bundle(short).join("attach").exists());
    }
    pod.run("killed", "sleep 1000").await;
    let monitor_pid = fs::read_to_string(pod.bundle("killed").join("conmon-pidfile")).unwrap();
    assert_eq!(monitor_pid, pod.monitor.pid().to_string());
    pod.runtime
        .kill(&pod.id("killed"), 9, KillScope::Init)
        .unwrap();
    let exit = pod.exit("killed").await;
    assert_eq!((exit.exit_code, exit.signal), (137, Some(9)));
    // A living container is not forgotten, an ended one is, with its files.
    pod.run("alive", "sleep 1000").await;
    assert!(pod.monitor.remove(&pod.id("alive")).await.is_err());
    assert!(pod.monitor.shutdown().await.is_err());
    pod.monitor.remove(&pod.id("killed")).await.unwrap();
    assert!(!pod.bundle("killed").join("ctl").exists());
    assert!(pod.log("killed").exists());
    assert_eq!(pod.monitor.list().await.unwrap().len(), 3);
}

pub(crate) async fn a_memory_kill_is_reported(runtime: Runtime) {
    let mut pod = Pod::start(&runtime).await;
    let script = "x=$(head -c 200000000 /dev/zero | tr '\\0' 'a'); echo ${#x}";
    let resources = json!({"memory": {"limit": 20_971_520, "swap": 20_971_520}});
    let request = pod.request("oom", process(script, false), resources);
    pod.create(request).await.unwrap();
    pod.start_created("oom").await;
    let exit = pod.exit("oom").await;
    assert!(exit.oom_killed, "{exit:?}");
    assert!(pod.bundle("oom").join("oom").exists());
    assert!(pod.bundle("oom").join("persistent/oom").exists());
}

pub(crate) async fn what_happened_while_nobody_was_connected_is_known(runtime: Runtime) {
    let pod = Pod::start(&runtime).await;
    pod.run("away", "exit 7").await;
    eventually(|| pod.exit_file("away").exists()).await;
    let again = Monitor::connect(pod.monitor.socket()).await.unwrap();
    let report = again
        .containers
        .iter()
        .find(|report| report.id == pod.id("away"))
        .unwrap();
    assert_eq!(report.exit.unwrap().exit_code, 7);
    assert!(report.pid > 1);
}

pub(crate) async fn twenty_containers_share_one_monitor(runtime: Runtime) {
    let mut pod = Pod::start(&runtime).await;
    let names: Vec<String> = (0..20).map(|number| format!("c{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        pod.run(name, &format!("echo from {number}; exit {number}"))
            .await;
    }
    let mut left = names.len();
    while left > 0 {
        match pod.events.recv().await {
            Some(MonitorEvent::Exited { .. }) => left -= 1,
            Some(MonitorEvent::Oom { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    for (number, name) in names.iter().enumerate() {
        assert_eq!(
            fs::read_to_string(pod.exit_file(name)).unwrap(),
            number.to_string()
        );
        assert_eq!(pod.log_lines(name), [format!("stdout F from {number}")]);
    }
    assert_eq!(pod.monitor.list().await.unwrap().len(), 20);
    let task = format!("/proc/{}/task", pod.monitor.pid());
    assert_eq!(
        fs::read_dir(task).unwrap().count(),
        1,
        "a monitor has one thread"
    );
    pod.monitor.shutdown().await.unwrap();
    assert_eq!(pod.events.recv().await, Some(MonitorEvent::Gone));
    eventually(|| !pod.monitor.socket().exists()).await;
}

pub(crate) async fn a_killed_monitor_is_noticed(runtime: Runtime) {
    let mut pod = Pod::start(&runtime).await;
    pod.run("orphan", "sleep 1000").await;
    let pid = rustix::process::Pid::from_raw(pod.monitor.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    // Only SIGKILL ends a monitor.
    assert_eq!(pod.monitor.list().await.unwrap().len(), 1);
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(pod.events.recv().await, Some(MonitorEvent::Gone));
    let error = pod.monitor.list().await.unwrap_err();
    assert!(error.is_unsent(), "{error}");
    assert!(Monitor::connect(pod.monitor.socket()).await.is_err());
    // The container is not harmed.
    let state = pod.runtime.state(&pod.id("orphan")).unwrap();
    assert_eq!(state.status, crioxide_oci_runtime::ContainerStatus::Running);
}

pub(crate) async fn a_background_process_does_not_hold_the_exit_back(runtime: Runtime) {
    let mut pod = Pod::start(&runtime).await;
    // Without a pid namespace of its own the container's second process survives the first and keeps its stdout.
    let request = pod.request("parent", process("sleep 1000 & exit 4", false), json!({}));
    let path = pod.bundle("parent").join("config.json");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace(r#"{"type":"pid"},"#, "");
    fs::write(&path, text).unwrap();
    pod.create(request).await.unwrap();
    pod.start_created("parent").await;
    assert_eq!(pod.exit("parent").await.exit_code, 4);
}
