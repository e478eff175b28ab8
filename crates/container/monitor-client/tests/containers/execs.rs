//! Processes run in a living container.

use std::io::Read;
use std::os::fd::OwnedFd;

use crioxide_monitor_client::{ExecDescriptors, FailureKind};

use crate::bundle::process;
use crate::pod::{Pod, Runtime, eventually};

fn pipe() -> (std::io::PipeReader, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader, writer.into())
}

fn text(script: &str, terminal: bool) -> Vec<u8> {
    serde_json::to_vec(&process(script, terminal)).unwrap()
}

pub(crate) async fn output_exit_code_and_signals(runtime: Runtime) {
    let pod = Pod::start(&runtime).await;
    pod.run("host", "sleep 1000").await;
    let id = pod.id("host");

    let ((mut out, stdout), (mut err, stderr), (stdin, mut input)) =
        (pipe(), pipe(), std::io::pipe().unwrap());
    let descriptors = ExecDescriptors {
        stdin: Some(stdin.into()),
        stdout: Some(stdout),
        stderr: Some(stderr),
    };
    let script = text("read line; echo got $line; echo err >&2; exit 9", false);
    let mut exec = pod.monitor.exec(&id, &script, descriptors).await.unwrap();
    std::io::Write::write_all(&mut input, b"hello\n").unwrap();
    assert_eq!(exec.wait().await.unwrap().exit_code, 9);
    let (mut said, mut complained) = (String::new(), String::new());
    out.read_to_string(&mut said).unwrap();
    err.read_to_string(&mut complained).unwrap();
    assert_eq!(
        (said.as_str(), complained.as_str()),
        ("got hello\n", "err\n")
    );

    // A process with a child of its own is ended as a whole.
    let mut exec = pod
        .monitor
        .exec(
            &id,
            &text("sleep 1000 | cat", false),
            ExecDescriptors::default(),
        )
        .await
        .unwrap();
    exec.kill(9).await.unwrap();
    assert_eq!(exec.wait().await.unwrap().exit_code, 137);
    assert!(exec.kill(9).await.is_err());

    // Very short ones must not get lost between the runtime's end and their own.
    for _ in 0..10 {
        let mut exec = pod
            .monitor
            .exec(&id, &text("true", false), ExecDescriptors::default())
            .await
            .unwrap();
        assert_eq!(exec.wait().await.unwrap().exit_code, 0);
    }

    let missing = serde_json::to_vec(&serde_json::json!({
        "user": {"uid": 0, "gid": 0}, "args": ["/bin/nothing"], "env": [], "cwd": "/"
    }))
    .unwrap();
    let (_out, stderr) = pipe();
    let descriptors = ExecDescriptors {
        stderr: Some(stderr),
        ..Default::default()
    };
    let error = pod
        .monitor
        .exec(&id, &missing, descriptors)
        .await
        .unwrap_err();
    assert_eq!(error.failure().unwrap().kind, FailureKind::Runtime);
    let error = pod
        .monitor
        .exec("unknown", &missing, ExecDescriptors::default())
        .await
        .unwrap_err();
    assert_eq!(error.failure().unwrap().kind, FailureKind::NotFound);
    // Nothing of the execs is left in the bundle.
    let left = std::fs::read_dir(pod.bundle("host")).unwrap().flatten();
    assert!(
        !left
            .into_iter()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("exec-"))
    );
}

pub(crate) async fn a_dropped_handle_ends_the_process(runtime: Runtime) {
    let pod = Pod::start(&runtime).await;
    pod.run("host", "sleep 1000").await;
    let id = pod.id("host");
    let script = text("sleep 1000", false);
    let exec = pod.monitor.exec(&id, &script, ExecDescriptors::default());
    let exec = exec.await.unwrap();
    let process = std::path::PathBuf::from(format!("/proc/{}", exec.pid));
    assert!(process.exists());
    drop(exec);
    eventually(|| !process.exists()).await;

    let script = text("sleep 1000", true);
    let (exec, _master) = pod.monitor.exec_on_terminal(&id, &script).await.unwrap();
    let process = std::path::PathBuf::from(format!("/proc/{}", exec.pid));
    drop(exec);
    eventually(|| !process.exists()).await;
}

pub(crate) async fn a_terminal_is_handed_over(runtime: Runtime) {
    let pod = Pod::start(&runtime).await;
    pod.run("host", "sleep 1000").await;
    let script = text("test -t 0 && test -t 1 && echo on a terminal; exit 6", true);
    let (mut exec, master) = pod
        .monitor
        .exec_on_terminal(&pod.id("host"), &script)
        .await
        .unwrap();
    let mut master = std::fs::File::from(master);
    let mut said = Vec::new();
    let mut buffer = [0; 256];
    // The end of a terminal is an I/O error.
    while let Ok(count) = master.read(&mut buffer) {
        if count == 0 {
            break;
        }
        said.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(String::from_utf8_lossy(&said).trim_end(), "on a terminal");
    assert_eq!(exec.wait().await.unwrap().exit_code, 6);
}
