//! Every message in its exact bytes. A difference here breaks running monitors on an upgrade: add fields with defaults
//! instead of changing what is there. Set `UPDATE_GOLDEN=1` to write the files of new messages.

#![expect(
    clippy::unwrap_used,
    reason = "a test may unwrap: the panic is its report"
)]

use std::fmt::Debug;
use std::path::Path;

use crioxide_monitor_protocol::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, message: &T) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(format!("{name}.json"));
    let bytes = encode(message).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, [&bytes[..], b"\n"].concat()).unwrap();
    }
    let golden = std::fs::read(&path).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&bytes),
        String::from_utf8_lossy(golden.trim_ascii_end()),
        "{name}"
    );
    assert_eq!(&decode::<T>(&golden).unwrap(), message, "{name}");
}

fn create() -> CreateContainer {
    CreateContainer {
        id: "c1".into(),
        bundle: "/run/b".into(),
        runtime: RuntimeCommand::Command {
            path: "/usr/bin/runc".into(),
            root: "/run/runc".into(),
            systemd_cgroup: true,
            args: vec!["--debug".into()],
        },
        stdio: StdioMode::Pipes,
        stdin: StdinMode::Once,
        log: ContainerLog {
            path: "/var/log/x".into(),
            size_max: Some(8192),
            sync: true,
            journal: None,
        },
        exit_dir: "/run/exits".into(),
        persist_dir: "/var/lib/c1".into(),
        attach_socket_dir: "/run/attach".into(),
        cgroup: Some("pod.slice:crio:c1".into()),
        no_pivot: false,
        timeout_ms: 240_000,
    }
}

#[test]
fn requests() {
    let frame = |request| ClientFrame { seq: 7, request };
    check("hello", &frame(Request::Hello { version: 1 }));
    check("list", &frame(Request::List { from: 64 }));
    check(
        "create",
        &frame(Request::CreateContainer(Box::new(create()))),
    );
    let builtin = RuntimeCommand::Builtin {
        root: "/run/crioxide".into(),
        systemd_cgroup: false,
    };
    let terminal = CreateContainer {
        runtime: builtin,
        stdio: StdioMode::Terminal,
        cgroup: None,
        ..create()
    };
    check(
        "create_builtin",
        &frame(Request::CreateContainer(Box::new(terminal))),
    );
    let restore = RestoreContainer {
        container: create(),
        checkpoint: Checkpoint {
            criu: "/usr/sbin/criu".into(),
            images: "/var/lib/c1/restoring/checkpoint".into(),
            work: "/var/lib/c1/restoring".into(),
        },
    };
    check(
        "restore",
        &frame(Request::RestoreContainer(Box::new(restore))),
    );
    let stdio = ExecStdio::Descriptors {
        stdin: false,
        stdout: true,
        stderr: true,
    };
    check(
        "exec",
        &frame(Request::Exec(ExecRequest {
            container: "c1".into(),
            exec: "e1".into(),
            stdio,
            foreign: None,
        })),
    );
    for (name, stderr) in [("exec_terminal", false), ("exec_terminal_stderr", true)] {
        let stdio = ExecStdio::Terminal {
            console_socket: "/run/console".into(),
            stderr,
        };
        check(
            name,
            &frame(Request::Exec(ExecRequest {
                container: "c1".into(),
                exec: "e1".into(),
                stdio,
                foreign: None,
            })),
        );
    }
    let foreign = ForeignContainer {
        runtime: create().runtime,
        bundle: "/run/b".into(),
    };
    check(
        "exec_foreign",
        &frame(Request::Exec(ExecRequest {
            container: "c1".into(),
            exec: "e1".into(),
            stdio: ExecStdio::Terminal {
                console_socket: "/run/console".into(),
                stderr: false,
            },
            foreign: Some(foreign),
        })),
    );
    check(
        "kill_exec",
        &frame(Request::KillExec {
            exec: "e1".into(),
            signal: 9,
        }),
    );
    check("reopen_log", &frame(Request::ReopenLog { id: "c1".into() }));
    check(
        "resize",
        &frame(Request::Resize {
            id: "c1".into(),
            width: 80,
            height: 24,
        }),
    );
    check(
        "close_stdin",
        &frame(Request::CloseStdin { id: "c1".into() }),
    );
    check("remove", &frame(Request::Remove { id: "c1".into() }));
    check("shutdown", &frame(Request::Shutdown));
}

#[test]
fn requests_about_containers_of_shims() {
    let frame = |request| ClientFrame { seq: 7, request };
    let keep = KeepStdio::from(&create());
    check("keep_stdio", &frame(Request::KeepStdio(Box::new(keep))));
    let id = || "c1".to_owned();
    check("made", &frame(Request::Made { id: id(), pid: 42 }));
    let ended = Request::Ended {
        id: id(),
        exit_code: 137,
        finished_at_ns: 1_700_000_000_000_000_001,
    };
    check("ended", &frame(ended));
}

#[test]
fn answers_and_events() {
    let reply = |reply| ServerFrame::Reply { seq: 7, reply };
    let exit = ExitReport {
        exit_code: 137,
        signal: Some(9),
        oom_killed: true,
        finished_at_ns: 1_700_000_000_000_000_001,
    };
    let report = ContainerReport {
        id: "c1".into(),
        pid: 42,
        exit: Some(exit),
        stdin_closed: false,
    };
    check("reply_hello", &reply(Reply::Hello { version: 1, pid: 9 }));
    check(
        "reply_containers",
        &reply(Reply::Containers {
            containers: vec![report],
            next: Some(64),
        }),
    );
    let closed = ContainerReport {
        id: "c1".into(),
        pid: 42,
        exit: None,
        stdin_closed: true,
    };
    check(
        "reply_containers_stdin_closed",
        &reply(Reply::Containers {
            containers: vec![closed],
            next: None,
        }),
    );
    check(
        "reply_created",
        &reply(Reply::Created {
            pid: 42,
            warnings: vec!["no swap".into()],
        }),
    );
    check("reply_exec_started", &reply(Reply::ExecStarted { pid: 43 }));
    check("reply_done", &reply(Reply::Done));
    check(
        "reply_failed",
        &reply(Reply::Failed(Failure::new(
            FailureKind::Runtime,
            "no such file",
        ))),
    );
    check(
        "event_exited",
        &ServerFrame::Event(Event::Exited {
            id: "c1".into(),
            exit,
        }),
    );
    check(
        "event_oom",
        &ServerFrame::Event(Event::Oom { id: "c1".into() }),
    );
    let event = Event::StdinClosed { id: "c1".into() };
    check("event_stdin_closed", &ServerFrame::Event(event));
    let event = Event::ExecExited {
        container: "c1".into(),
        exec: "e1".into(),
        exit,
    };
    check("event_exec_exited", &ServerFrame::Event(event));
}

#[test]
fn spawner() {
    let cgroup = Some(MonitorCgroup {
        path: "/pod/crio-conmon-p1".into(),
        systemd: false,
        existing: false,
    });
    let config = MonitorConfig {
        pod: "p1".into(),
        socket: "/run/p1/monitor.sock".into(),
        cgroup,
    };
    check("spawn", &SpawnerRequest::Spawn { seq: 1, config });
    check("spawned", &SpawnerReply::Spawned { seq: 1, pid: 99 });
    let program = Program {
        path: "/usr/bin/conmon".into(),
        args: vec!["-c".into(), "c1".into()],
        env: vec![("_OCI_SYNCPIPE".into(), "3".into())],
        directory: "/run/b".into(),
        cgroup: None,
        stdio: false,
    };
    let heard = Program {
        stdio: true,
        ..program.clone()
    };
    check("run", &SpawnerRequest::Run { seq: 2, program });
    let run = SpawnerRequest::Run {
        seq: 2,
        program: heard,
    };
    check("run_heard", &run);
    check("kill", &SpawnerRequest::Kill { seq: 2 });
    let ran = SpawnerReply::Ran {
        seq: 2,
        exit_code: 0,
    };
    check("ran", &ran);
    let failure = Failure::new(FailureKind::System, "cannot listen");
    check("spawn_failed", &SpawnerReply::Failed { seq: 1, failure });
}

#[test]
fn additions_of_newer_versions_are_tolerated() {
    let newer = br#"{"event":"container_paused","id":"c1"}"#;
    assert_eq!(
        decode::<ServerFrame>(newer).unwrap(),
        ServerFrame::Event(Event::Unknown)
    );
    let newer = br#"{"seq":1,"reply":"failed","kind":"quota","message":"m"}"#;
    let ServerFrame::Reply {
        reply: Reply::Failed(failure),
        ..
    } = decode(newer).unwrap()
    else {
        panic!()
    };
    assert_eq!(failure.kind, FailureKind::Unknown);
    let newer = br#"{"seq":1,"request":{"do":"list","from":0,"colour":"red"}}"#;
    assert!(decode::<ClientFrame>(newer).is_ok());
}

#[test]
fn garbage_and_oversize_are_refused() {
    for bad in [
        &b""[..],
        b"{}",
        b"\xff\xfe",
        br#"{"seq":1,"request":{"do":"dance"}}"#,
    ] {
        assert!(matches!(
            decode::<ClientFrame>(bad),
            Err(CodecError::Malformed { .. })
        ));
    }
    let large = Failure {
        kind: FailureKind::System,
        message: "x".repeat(MAX_PACKET),
    };
    assert!(matches!(encode(&large), Err(CodecError::TooLarge { .. })));
    assert!(encode(&Failure::new(FailureKind::System, "é".repeat(MAX_PACKET))).is_ok());
}
