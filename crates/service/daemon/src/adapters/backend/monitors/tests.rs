//! A scripted monitor that drops its client, lives on, and then dies.

use std::{os::fd::OwnedFd, path::Path};

use crioxide_monitor_client::ContainerReport;
use crioxide_monitor_protocol::{
    ClientFrame, MAX_PACKET, Reply, Request, ServerFrame, VERSION, decode, encode,
};
use crioxide_sys::messages::{receive_packet, send_packet};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept, bind, listen, socket_with,
};

use super::super::exec;
use super::*;

fn listener(path: &Path) -> OwnedFd {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&socket, 4).unwrap();
    socket
}

/// Answers the greeting and the list that a client begins with, and ends the connection.
fn greet_and_leave(listener: &OwnedFd, containers: &[ContainerReport]) {
    drop(greet(listener, containers));
}

fn greet(listener: &OwnedFd, containers: &[ContainerReport]) -> OwnedFd {
    let connection = accept(listener).unwrap();
    let mut buffer = vec![0; MAX_PACKET];
    for _ in 0..2 {
        let packet = receive_packet(&connection, &mut buffer).unwrap();
        let frame: ClientFrame = decode(&buffer[..packet.length]).unwrap();
        let reply = match frame.request {
            Request::Hello { .. } => Reply::Hello {
                version: VERSION,
                pid: 7,
            },
            Request::List { .. } => Reply::Containers {
                containers: containers.to_vec(),
                next: None,
            },
            other => panic!("{other:?}"),
        };
        let reply = ServerFrame::Reply {
            seq: frame.seq,
            reply,
        };
        send_packet(&connection, &encode(&reply).unwrap(), &[]).unwrap();
    }
    connection
}

#[tokio::test]
async fn a_monitor_is_lost_only_when_it_cannot_be_reached_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("monitor.sock");
    let ended = ContainerId::generate();
    let report = ContainerReport {
        id: ended.to_string(),
        pid: 8,
        exit: Some(MonitorExit {
            exit_code: 3,
            signal: None,
            oom_killed: false,
            finished_at_ns: 5,
        }),
        stdin_closed: false,
    };
    let socket = listener(&path);
    let monitor = std::thread::spawn(move || {
        greet_and_leave(&socket, &[]);
        // The container ended while the client was away.
        greet_and_leave(&socket, &[report]);
    });

    let (sender, mut events) = mpsc::unbounded_channel();
    let listener = Listener {
        pod: PodId::generate(),
        map: Arc::default(),
        events: sender,
        stdin_closed: mpsc::unbounded_channel().0,
    };
    let (map, pod) = (listener.map.clone(), listener.pod.clone());
    let connected = Monitor::connect(&path).await.unwrap();
    let mut news = listener.take(connected, |map, pod, monitor| {
        map.insert(pod.clone(), monitor);
    });
    assert_eq!(listener.follow(&mut news).await, Ended::Unexpected);
    let mut news = listener.connect_again().await.expect("it listens still");
    assert!(map.borrow().contains_key(&pod));
    match events.recv().await {
        Some(BackendEvent::Exited(exit)) => {
            assert_eq!((exit.id, exit.exit_code), (ended, Some(3)));
        }
        other => panic!("{other:?}"),
    }
    monitor.join().unwrap();
    assert_eq!(listener.follow(&mut news).await, Ended::Unexpected);
    assert!(listener.connect_again().await.is_none());
    match events.recv().await {
        Some(BackendEvent::MonitorLost(lost)) => assert_eq!(lost, pod),
        other => panic!("{other:?}"),
    }
    assert!(map.borrow().is_empty());
}

/// A request under way is not known to be done or not; a later one was not begun, and goes to the next monitor as soon
/// as this one has left the map.
#[tokio::test]
async fn a_request_that_died_with_its_monitor_is_told_from_one_that_came_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("monitor.sock");
    let socket = listener(&path);
    let (asked, died) = std::sync::mpsc::channel();
    let scripted = std::thread::spawn(move || {
        let connection = greet(&socket, &[]);
        receive_packet(&connection, &mut vec![0; MAX_PACKET]).unwrap();
        drop((connection, socket));
        asked.send(()).unwrap();
    });
    let connected = Monitor::connect(&path).await.unwrap();
    let monitor = connected.monitor.clone();
    let error = monitor.reopen_log("id").await.unwrap_err();
    assert!(
        matches!(error, MonitorError::Gone { sent: true, .. }),
        "{error}"
    );
    assert!(exec::ended_early(error).is::<crioxide_engine::ports::Interrupted>());
    died.recv().unwrap();
    let error = monitor.reopen_log("id").await.unwrap_err();
    assert!(exec::is_unsent::<()>(&Err(exec::ended_early(error))));
    scripted.join().unwrap();
}

#[tokio::test]
async fn a_connection_is_left_when_it_is_dropped_or_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("monitor.sock");
    let socket = listener(&path);
    let scripted = std::thread::spawn(move || [greet(&socket, &[]), greet(&socket, &[])]);
    let one = Monitor::connect(&path).await.unwrap().monitor;
    let other = Monitor::connect(&path).await.unwrap().monitor;
    tokio::time::pause();
    let (connected, pod) = (watch::Sender::<Connections>::default(), PodId::generate());
    connected.send_modify(|all| drop(all.insert(pod.clone(), one.clone())));
    assert!(!left(&connected, &pod, &one).await);
    assert!(left(&connected, &pod, &other).await);
    connected.send_modify(|all| drop(all.insert(pod.clone(), other)));
    assert!(left(&connected, &pod, &one).await);
    remove(&connected, &pod).unwrap();
    assert!(left(&connected, &pod, &one).await);
    scripted.join().unwrap();
}
