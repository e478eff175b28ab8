//! Containers that a shim makes and the monitor keeps the input and output of. The tests play the shim.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crioxide_monitor_client::{FailureKind, KeepStdio, MonitorEvent, StdinMode};
use rustix::fs::OFlags;
use rustix::net::SendFlags;
use serde_json::json;

use crate::attach::connect;
use crate::bundle::process;
use crate::pod::{Pod, Runtime, eventually};

/// Has the monitor keep a container that does not run here.
async fn keep(pod: &Pod, short: &str, stdin: StdinMode) -> KeepStdio {
    let mut request = pod.request(short, process("true", false), json!({}));
    request.stdin = stdin;
    let keep = KeepStdio::from(&request);
    pod.monitor.keep_stdio(keep.clone()).await.unwrap();
    keep
}

fn writer(fifo: &Path) -> File {
    OpenOptions::new().write(true).open(fifo).unwrap()
}

pub(crate) async fn a_shims_container_is_logged_and_recorded(runtime: Runtime) {
    if !runtime.is_builtin() {
        return;
    }
    let mut pod = Pod::start(&runtime).await;
    let kept = keep(&pod, "kept", StdinMode::Closed).await;
    assert!(kept.stdin_fifo().is_none());
    let id = pod.id("kept");
    pod.monitor.made(&id, 4242).await.unwrap();
    let mut stdout = writer(&kept.stdout_fifo());
    let mut stderr = writer(&kept.stderr_fifo().unwrap());
    stderr.write_all(b"oh\n").unwrap();
    drop(stderr);
    // A FIFO that nobody has open at the moment has not ended.
    stdout.write_all(b"one\n").unwrap();
    drop(stdout);
    eventually(|| pod.log_lines("kept").len() == 2).await;
    let mut stdout = writer(&kept.stdout_fifo());
    pod.monitor.ended(&id, 3, 77).await.unwrap();
    // What the shim still has belongs to it; more than a pipe holds shows that it is read meanwhile.
    let line = "x".repeat(99) + "\n";
    stdout.write_all(line.repeat(2000).as_bytes()).unwrap();
    assert!(!pod.exit_file("kept").exists());
    drop(stdout);
    let exit = pod.exit("kept").await;
    assert_eq!((exit.exit_code, exit.finished_at_ns), (3, 77));
    // Lines are cut where a read ends.
    let logged = pod.log_lines("kept").concat();
    assert_eq!(logged.matches('x').count(), 2000 * 99);
    assert_eq!(std::fs::read_to_string(pod.exit_file("kept")).unwrap(), "3");
    // Told again, as by a daemon that starts.
    pod.monitor.ended(&id, 9, 78).await.unwrap();
    let known = pod.monitor.list().await.unwrap();
    assert_eq!((known[0].pid, known[0].exit), (4242, Some(exit)));
    pod.monitor.remove(&id).await.unwrap();
    assert!(!kept.stdout_fifo().exists());
}

pub(crate) async fn a_shims_container_that_was_not_made_leaves_nothing(runtime: Runtime) {
    if !runtime.is_builtin() {
        return;
    }
    let pod = Pod::start(&runtime).await;
    let kept = keep(&pod, "none", StdinMode::Open).await;
    let id = pod.id("none");
    let twice = pod.monitor.keep_stdio(kept.clone()).await.unwrap_err();
    assert_eq!(twice.failure().unwrap().kind, FailureKind::Exists);
    assert!(pod.log("none").exists() && kept.stdin_fifo().unwrap().exists());
    pod.monitor.ended(&id, 0, 0).await.unwrap();
    for path in [pod.log("none"), kept.stdout_fifo(), kept.bundle.join("ctl")] {
        assert!(!path.exists(), "{}", path.display());
    }
    let gone = pod.monitor.ended(&id, 0, 0).await.unwrap_err();
    assert_eq!(gone.failure().unwrap().kind, FailureKind::NotFound);
    // What is no FIFO is not taken for one.
    std::fs::write(kept.stdout_fifo(), "").unwrap();
    let refused = pod.monitor.keep_stdio(kept.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("that is no FIFO"), "{refused}");
    assert!(!pod.log("none").exists());
}

pub(crate) async fn the_end_of_typing_is_told_to_the_shim(runtime: Runtime) {
    if !runtime.is_builtin() {
        return;
    }
    let mut pod = Pod::start(&runtime).await;
    let kept = keep(&pod, "typed", StdinMode::Once).await;
    let id = pod.id("typed");
    pod.monitor.made(&id, 4242).await.unwrap();
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    let fifo = kept.stdin_fifo().unwrap();
    let mut stdin = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(fifo)
        .unwrap();
    let attach = pod.directory.path().join("attach").join(&id).join("attach");
    let typing = connect(&attach);
    rustix::net::send(&typing, b"hello", SendFlags::NOSIGNAL).unwrap();
    rustix::net::shutdown(&typing, rustix::net::Shutdown::Write).unwrap();
    let told = pod.events.recv().await.unwrap();
    assert_eq!(told, MonitorEvent::StdinClosed { id: id.clone() });
    assert!(pod.monitor.list().await.unwrap()[0].stdin_closed);
    let mut typed = String::new();
    stdin.read_to_string(&mut typed).unwrap();
    assert_eq!(typed, "hello");
    // The monitor's own containers are nobody else's to end.
    pod.run("own", "exit 4").await;
    let refused = pod.monitor.ended(&pod.id("own"), 1, 1).await.unwrap_err();
    assert_eq!(refused.failure().unwrap().kind, FailureKind::State);
    assert_eq!(pod.exit("own").await.exit_code, 4);
    pod.monitor.ended(&id, 0, 1).await.unwrap();
    pod.exit("typed").await;
}
