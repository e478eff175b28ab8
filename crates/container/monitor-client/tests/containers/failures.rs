//! What goes wrong, and what is left then.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crioxide_monitor_client::{FailureKind, Monitor, RuntimeCommand};
use crioxide_oci_runtime::RuntimeError;
use serde_json::json;

use crate::bundle::process;
use crate::pod::{Pod, Runtime};

fn assert_nothing_left(pod: &Pod, short: &str) {
    for name in [
        "attach",
        "ctl",
        "winsz",
        "pidfile",
        "conmon-pidfile",
        "console",
    ] {
        assert!(!pod.bundle(short).join(name).exists(), "{name} is left");
    }
    assert!(!pod.log(short).exists());
    assert!(fs::symlink_metadata(pod.directory.path().join("attach").join(pod.id(short))).is_err());
}

pub(crate) async fn a_failed_create_leaves_nothing(runtime: Runtime) {
    let pod = Pod::start(&runtime).await;
    let mut bad = process("true", false);
    bad["args"] = json!(["/bin/nothing"]);
    let error = pod
        .create(pod.request("bad", bad, json!({})))
        .await
        .unwrap_err();
    let failure = error.failure().unwrap();
    assert_eq!(failure.kind, FailureKind::Runtime);
    assert!(failure.message.contains("nothing"), "{}", failure.message);
    assert_nothing_left(&pod, "bad");
    assert!(matches!(
        pod.runtime.state(&pod.id("bad")),
        Err(RuntimeError::NotFound { .. })
    ));
    assert!(pod.monitor.list().await.unwrap().is_empty());

    let mut missing = pod.request("missing", process("true", false), json!({}));
    missing.runtime = RuntimeCommand::Command {
        path: "/nonexistent/runtime".into(),
        root: "/nonexistent".into(),
        systemd_cgroup: false,
        args: Vec::new(),
    };
    let error = pod.create(missing).await.unwrap_err();
    assert!(
        error.to_string().contains("/nonexistent/runtime"),
        "{error}"
    );
    assert_nothing_left(&pod, "missing");
    // The same id may be tried again.
    pod.run("bad", "true").await;
}

pub(crate) async fn a_hanging_runtime_is_killed(runtime: Runtime) {
    let pod = Pod::start(&runtime).await;
    let script = pod.directory.path().join("hangs");
    let pid_file = pod.directory.path().join("hangs.pid");
    let text = format!(
        "#!/bin/sh\nfor a; do [ \"$a\" = delete ] && exit 0; done\nsleep 1000 &\necho $! > {}\nwait\n",
        pid_file.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut request = pod.request("hang", process("true", false), json!({}));
    request.timeout_ms = 300;
    request.runtime = RuntimeCommand::Command {
        path: script,
        root: "/r".into(),
        systemd_cgroup: false,
        args: Vec::new(),
    };
    let error = pod.monitor.create(request).await.unwrap_err();
    assert_eq!(error.failure().unwrap().kind, FailureKind::Timeout);
    assert_nothing_left(&pod, "hang");
    let pid = fs::read_to_string(pid_file).unwrap();
    crate::pod::eventually(|| {
        fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
            .map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
}

pub(crate) async fn nonsense_is_refused(runtime: Runtime) {
    let pod = Pod::start(&runtime).await;
    let mut request = pod.request("x", process("true", false), json!({}));
    request.id = "../escape".into();
    let error = pod.monitor.create(request.clone()).await.unwrap_err();
    assert_eq!(error.failure().unwrap().kind, FailureKind::Protocol);
    request.id = pod.id("x");
    request.log.path = "relative".into();
    assert!(pod.monitor.create(request).await.is_err());
    for answer in [
        pod.monitor.reopen_log("unknown").await,
        pod.monitor.remove("unknown").await,
    ] {
        assert_eq!(
            answer.unwrap_err().failure().unwrap().kind,
            FailureKind::NotFound
        );
    }
    // Garbage closes that connection and harms no other.
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        None,
    )
    .unwrap();
    rustix::net::connect(
        &socket,
        &rustix::net::SocketAddrUnix::new(pod.monitor.socket()).unwrap(),
    )
    .unwrap();
    rustix::net::send(
        &socket,
        b"\xff\x00garbage",
        rustix::net::SendFlags::NOSIGNAL,
    )
    .unwrap();
    let mut buffer = [0; 16];
    let (_, count) =
        rustix::net::recv(&socket, &mut buffer[..], rustix::net::RecvFlags::empty()).unwrap();
    assert_eq!(count, 0);
    assert!(Monitor::connect(pod.monitor.socket()).await.is_ok());
}
