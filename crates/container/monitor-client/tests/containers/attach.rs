//! The sockets and pipes that CRI-O uses with conmon.

use std::os::fd::OwnedFd;
use std::path::Path;

use crioxide_monitor_client::StdinMode;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, socket_with,
};
use serde_json::json;

use crate::bundle::process;
use crate::pod::{Pod, Runtime, eventually};

pub(crate) fn connect(path: &Path) -> OwnedFd {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

/// Everything a client gets until the socket closes, by stream.
fn receive_all(socket: &OwnedFd) -> (String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut packet = [0; 8193];
    loop {
        match rustix::net::recv(socket, &mut packet[..], RecvFlags::empty()) {
            Ok((_, 0)) | Err(_) => break,
            Ok((_, count)) => match packet[0] {
                2 => out.extend_from_slice(&packet[1..count]),
                3 => err.extend_from_slice(&packet[1..count]),
                other => panic!("unknown stream {other}"),
            },
        }
    }
    (
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

pub(crate) async fn clients_see_output_and_type(runtime: Runtime) {
    let mut pod = Pod::start(&runtime).await;
    let script = "cat; echo done >&2";
    let mut request = pod.request("cat", process(script, false), json!({}));
    request.stdin = StdinMode::Once;
    pod.create(request).await.unwrap();
    let path = pod
        .directory
        .path()
        .join("attach")
        .join(pod.id("cat"))
        .join("attach");
    let (typing, watching) = (connect(&path), connect(&path));
    // One that never reads must not delay the others or the container.
    let _sleeping = connect(&path);
    pod.start_created("cat").await;
    let line = "x".repeat(999) + "\n";
    let expected = line.repeat(300);
    let reader = tokio::task::spawn_blocking(move || receive_all(&watching));
    // The typing client has to read too, or it is dropped as too slow.
    let typing = std::sync::Arc::new(typing);
    let also_typing = std::sync::Arc::clone(&typing);
    let own = tokio::task::spawn_blocking(move || receive_all(&also_typing));
    for _ in 0..300 {
        rustix::net::send(&*typing, line.as_bytes(), SendFlags::NOSIGNAL).unwrap();
    }
    rustix::net::shutdown(&*typing, rustix::net::Shutdown::Write).unwrap();
    assert_eq!(pod.exit("cat").await.exit_code, 0);
    assert_eq!(
        pod.log_lines("cat")
            .iter()
            .filter(|line| line.starts_with("stderr F done"))
            .count(),
        1
    );
    let logged: usize = pod
        .log_lines("cat")
        .iter()
        .filter(|line| line.starts_with("stdout"))
        .map(|line| line.len() - "stdout F ".len())
        .sum();
    assert_eq!(logged, 300 * 999);
    let (out, _) = reader.await.unwrap();
    // A client that was too slow for a moment got a beginning; no client gets anything else.
    assert!(expected.starts_with(&out));
    own.await.unwrap();
}

pub(crate) async fn the_control_fifo_reopens_the_log(runtime: Runtime) {
    let mut pod = Pod::start(&runtime).await;
    pod.run(
        "fifo",
        "echo one; while [ ! -e /proc/self/root/dev/go ]; do sleep 0.01; done; echo two",
    )
    .await;
    eventually(|| !pod.log_lines("fifo").is_empty()).await;
    let rotated = pod.log("fifo").with_extension("1");
    std::fs::rename(pod.log("fifo"), &rotated).unwrap();
    // As CRI-O does: open for writing, one line, wait for the file.
    std::fs::write(pod.bundle("fifo").join("ctl"), "2 0 0\n").unwrap();
    eventually(|| pod.log("fifo").exists()).await;
    let touch = serde_json::to_vec(&process("echo > /dev/go", false)).unwrap();
    let id = pod.id("fifo");
    let touching = pod.monitor.exec(&id, &touch, Default::default());
    // Not dropped before its end: that would kill it.
    touching.await.unwrap().wait().await.unwrap();
    pod.exit("fifo").await;
    assert_eq!(crate::pod::lines_of(&rotated), ["stdout F one"]);
    assert_eq!(pod.log_lines("fifo"), ["stdout F two"]);
}
