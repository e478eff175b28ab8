//! Command line and environment.

use std::path::Path;

use crioxide_monitor_protocol::{CreateContainer, RuntimeCommand, StdinMode, StdioMode};

use super::ConmonProgram;

/// The arguments, in CRI-O's order. `None` for the built-in runtime, which is no program that conmon could run.
pub(super) fn create(
    program: &ConmonProgram,
    name: &str,
    request: &CreateContainer,
) -> Option<Vec<String>> {
    let RuntimeCommand::Command {
        path: runtime,
        root,
        systemd_cgroup,
        args: _,
    } = &request.runtime
    else {
        return None;
    };
    let bundle = &request.bundle;
    let mut args: Vec<String> = Vec::with_capacity(40);
    let mut option = |key: &str, value: String| args.extend([key.to_owned(), value]);
    option("-b", text(bundle));
    option("-c", request.id.clone());
    option("--exit-dir", text(&request.exit_dir));
    option("-l", text(&request.log.path));
    option("--log-level", program.log_level.clone());
    option("-n", name.to_owned());
    option("-P", text(&bundle.join(super::process::PID_FILE)));
    option("-p", text(&bundle.join("pidfile")));
    option("--persist-dir", text(&request.persist_dir));
    option("-r", text(runtime));
    option("--runtime-arg", format!("--root={}", root.display()));
    option("--socket-dir-path", text(&request.attach_socket_dir));
    args.push("--syslog".to_owned());
    args.extend(["-u".to_owned(), request.id.clone()]);
    if *systemd_cgroup {
        args.push("-s".to_owned());
    }
    if let Some(size) = request.log.size_max {
        args.extend(["--log-size-max".to_owned(), size.to_string()]);
    }
    if !request.log.sync {
        args.push("--no-sync-log".to_owned());
    }
    if program.journald {
        args.extend(["--log-path".to_owned(), "journald:".to_owned()]);
    }
    if request.no_pivot {
        args.push("--no-pivot".to_owned());
    }
    if request.stdio == StdioMode::Terminal {
        args.push("-t".to_owned());
    } else if request.stdin != StdinMode::Closed {
        if request.stdin == StdinMode::Open {
            args.push("--leave-stdin-open".to_owned());
        }
        args.push("-i".to_owned());
    }
    Some(args)
}

/// The whole environment. `inherited` is ours, of which CRI-O hands on two variables; its `PATH` wins.
pub(super) fn environment(
    program: &ConmonProgram,
    inherited: impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |key: &str, value: String| {
        env.retain(|(known, _)| known != key);
        env.push((key.to_owned(), value));
    };
    for (key, value) in program.env.iter().filter_map(|item| item.split_once('=')) {
        set(key, value.to_owned());
    }
    set("CRI_O_EXTERNAL", "1".to_owned());
    for key in ["XDG_RUNTIME_DIR", "PATH"] {
        if let Some(value) = inherited(key) {
            set(key, value);
        }
    }
    set("_OCI_SYNCPIPE", "3".to_owned());
    set("_OCI_STARTPIPE", "4".to_owned());
    env
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use crioxide_monitor_protocol::ContainerLog;

    use super::*;

    fn program() -> ConmonProgram {
        ConmonProgram {
            path: "/usr/bin/conmon".into(),
            env: vec!["PATH=/bin".into(), "TINY=1".into()],
            log_level: "info".into(),
            journald: false,
        }
    }

    fn request(stdio: StdioMode, stdin: StdinMode) -> CreateContainer {
        CreateContainer {
            id: "88e1".into(),
            bundle: "/run/containers/storage/overlay-containers/88e1/userdata".into(),
            runtime: RuntimeCommand::Command {
                path: "/usr/sbin/runc".into(),
                root: "/run/runc".into(),
                systemd_cgroup: false,
                args: Vec::new(),
            },
            stdio,
            stdin,
            log: ContainerLog {
                path: "/var/log/pods/p/inpod/0.log".into(),
                size_max: None,
                sync: true,
                journal: None,
            },
            exit_dir: "/var/run/crio/exits".into(),
            persist_dir: "/var/lib/containers/storage/overlay-containers/88e1/userdata".into(),
            attach_socket_dir: "/var/run/crio".into(),
            cgroup: None,
            no_pivot: false,
            timeout_ms: 240_000,
        }
    }

    /// As CRI-O ran it on a real node, with the ids shortened.
    const RECORDED: &str = "-b /run/containers/storage/overlay-containers/88e1/userdata -c 88e1 \
        --exit-dir /var/run/crio/exits -l /var/log/pods/p/inpod/0.log --log-level info -n k8s_inpod_p_default_u_0 \
        -P /run/containers/storage/overlay-containers/88e1/userdata/conmon-pidfile \
        -p /run/containers/storage/overlay-containers/88e1/userdata/pidfile \
        --persist-dir /var/lib/containers/storage/overlay-containers/88e1/userdata -r /usr/sbin/runc \
        --runtime-arg --root=/run/runc --socket-dir-path /var/run/crio --syslog -u 88e1";

    #[test]
    fn the_command_line_is_that_of_a_recorded_node() {
        for (stdio, stdin, end) in [
            (StdioMode::Pipes, StdinMode::Closed, ""),
            (StdioMode::Pipes, StdinMode::Open, " --leave-stdin-open -i"),
            (StdioMode::Pipes, StdinMode::Once, " -i"),
            (StdioMode::Terminal, StdinMode::Open, " -t"),
        ] {
            let made = create(
                &program(),
                "k8s_inpod_p_default_u_0",
                &request(stdio, stdin),
            );
            assert_eq!(made.unwrap().join(" "), format!("{RECORDED}{end}"));
        }
    }

    #[test]
    fn every_setting_has_its_option() {
        let mut all = request(StdioMode::Pipes, StdinMode::Closed);
        all.runtime = RuntimeCommand::Command {
            path: "/usr/bin/crun".into(),
            root: "/run/crun".into(),
            systemd_cgroup: true,
            args: Vec::new(),
        };
        all.log.size_max = Some(8192);
        all.log.sync = false;
        all.no_pivot = true;
        let journald = ConmonProgram {
            journald: true,
            ..program()
        };
        let made = create(&journald, "n", &all).unwrap().join(" ");
        assert!(
            made.ends_with(
                "-u 88e1 -s --log-size-max 8192 --no-sync-log --log-path journald: --no-pivot"
            ),
            "{made}"
        );
        all.runtime = RuntimeCommand::Builtin {
            root: "/run/x".into(),
            systemd_cgroup: false,
        };
        assert_eq!(create(&program(), "n", &all), None);
    }

    #[test]
    fn our_path_wins_and_nothing_else_is_handed_on() {
        let env = environment(&program(), |key| match key {
            "PATH" => Some("/usr/bin".into()),
            "HOME" => Some("/root".into()),
            _ => None,
        });
        let expected = [
            ("TINY", "1"),
            ("CRI_O_EXTERNAL", "1"),
            ("PATH", "/usr/bin"),
            ("_OCI_SYNCPIPE", "3"),
            ("_OCI_STARTPIPE", "4"),
        ];
        assert_eq!(
            env,
            expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
    }
}
