//! Plugins that fail, hang, lie or are missing; configurations that change; crashes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crioxide_cni::{Cni, CniError, CniSettings, PluginError, Timeouts};

use crate::fixture::{Host, Pod, eventually, exists, is_root};

/// A plugin that logs each call and passes on what came before it.
const LOGGING: &str = r#"echo "$CNI_COMMAND $CNI_CONTAINERID" >> "$(dirname "$0")/../calls"
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.9/24"}]}'"#;

fn calls(host: &Host) -> Vec<String> {
    fs::read_to_string(host.path("calls"))
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

fn plugin_error(error: &CniError) -> &PluginError {
    match error {
        CniError::Add { source, .. } => source,
        other => panic!("not a failed ADD: {other:?}"),
    }
}

#[test]
fn a_failing_plugin_is_reported_and_the_list_undone() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    host.plugin("first", LOGGING);
    host.plugin(
        "second",
        r#"echo "$CNI_COMMAND second" >> "$(dirname "$0")/../calls"
[ "$CNI_COMMAND" = ADD ] || exit 0
echo '{"cniVersion":"1.0.0","code":42,"msg":"no cable","details":"port 7"}'; exit 1"#,
    );
    host.configure(
        "10.conflist",
        "1.0.0",
        "net",
        r#"[{"type":"first"},{"type":"second"}]"#,
    );
    let pod = Pod::new("aa");
    let error = host
        .namespace
        .run(|| host.cni().add(&pod.network))
        .unwrap_err();
    let text = plugin_error(&error).to_string();
    for part in ["`second`", "code 42", "no cable", "port 7"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(
        calls(&host),
        ["ADD aa", "ADD second", "DEL second", "DEL aa"]
    );
    assert!(host.records().is_empty());
}

#[test]
fn a_hanging_plugin_is_killed_with_its_children() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    host.plugin("hang", r#"[ "$CNI_COMMAND" = ADD ] || exit 0; sleep 500 & echo $$ $! > "$(dirname "$0")/../pids"; wait"#);
    host.configure("10.conflist", "1.0.0", "net", r#"[{"type":"hang"}]"#);
    let timeouts = Timeouts {
        add: Duration::from_millis(700),
        ..Timeouts::default()
    };
    let cni = Cni::new(CniSettings {
        timeouts,
        ..host.settings()
    });
    let pod = Pod::new("aa");
    let error = host.namespace.run(|| cni.add(&pod.network)).unwrap_err();
    assert!(
        matches!(plugin_error(&error), PluginError::TimedOut { .. }),
        "{error:?}"
    );
    let pids = fs::read_to_string(host.path("pids")).unwrap();
    for pid in pids.split_whitespace() {
        let proc = PathBuf::from(format!("/proc/{pid}/cmdline"));
        eventually("the plugin's processes are gone", || {
            // A zombie that waits for its parent has no command line.
            fs::read(&proc).map(|line| line.is_empty()).unwrap_or(true)
        });
    }
    assert!(host.records().is_empty());
}

#[test]
fn garbage_silence_and_signals_are_reported() {
    if !is_root() {
        return;
    }
    let cases = [
        ("echo this is not json", "expected"),
        ("", "nothing"),
        (
            r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"not-an-address"}]}'"#,
            "not-an-address",
        ),
        (r#"echo '{"cniVersion":"0.2.0","ip4":{}}'"#, "0.2.0"),
        ("kill -9 $$", "signal"),
        ("echo oops >&2; exit 3", "oops"),
        ("head -c 3000000 /dev/zero; exit 0", "cannot be understood"),
    ];
    for (script, expected) in cases {
        let host = Host::new();
        host.plugin(
            "bad",
            &format!("[ \"$CNI_COMMAND\" = ADD ] || exit 0\n{script}"),
        );
        host.configure("10.conflist", "1.0.0", "net", r#"[{"type":"bad"}]"#);
        let pod = Pod::new("aa");
        let error = host
            .namespace
            .run(|| host.cni().add(&pod.network))
            .unwrap_err();
        let text = plugin_error(&error).to_string();
        assert!(
            text.contains("`bad`") && text.contains(expected),
            "{script}: {text}"
        );
        assert!(host.records().is_empty(), "{script}");
    }
}

/// A result that cannot be true: its host port would lead to a service of the host itself.
#[test]
fn lies_are_refused_and_undone() {
    if !is_root() {
        return;
    }
    for (result, expected) in [
        (
            r#"{"cniVersion":"1.0.0","ips":[{"address":"127.0.0.1/8"}]}"#,
            "127.0.0.1",
        ),
        (
            r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.9/24","interface":7}]}"#,
            "does not name",
        ),
    ] {
        let host = Host::new();
        host.plugin(
            "liar",
            &format!(
                r#"echo "$CNI_COMMAND" >> "$(dirname "$0")/../calls"; [ "$CNI_COMMAND" = ADD ] || exit 0; echo '{result}'"#
            ),
        );
        host.configure("10.conflist", "1.0.0", "net", r#"[{"type":"liar"}]"#);
        let mut pod = Pod::new("aa");
        pod.network.port_mappings = vec![crioxide_cni::PortMapping {
            host_port: 8080,
            container_port: 22,
            protocol: crioxide_cni::Protocol::Tcp,
            host_ip: String::new(),
        }];
        let error = host
            .namespace
            .run(|| host.cni().add(&pod.network))
            .unwrap_err();
        let text = plugin_error(&error).to_string();
        assert!(text.contains("`liar`") && text.contains(expected), "{text}");
        assert_eq!(calls(&host), ["ADD", "DEL"]);
        assert!(host.records().is_empty() && !host.ruleset().contains("aa/eth0"));
    }
}

/// A power cut can leave a record empty; the pod can go all the same.
#[test]
fn a_torn_record_does_not_keep_a_pod() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let bridge = host.bridge("br0", r#"[[{"subnet":"10.9.0.0/24"}]]"#, "");
    host.configure("10.conflist", "1.0.0", "net", &format!("[{bridge}]"));
    let cni = host.cni();
    host.namespace.run(|| {
        for text in ["", "{", r#"{"kind":"other"}"#] {
            let pod = Pod::new("aa");
            cni.add(&pod.network).unwrap();
            fs::write(host.path("cache/results/net-aa-eth0"), text).unwrap();
            cni.del(&pod.network).unwrap();
            assert!(
                host.reserved("net").is_empty() && host.records().is_empty(),
                "{text}"
            );
        }
        let pod = Pod::new("aa");
        fs::write(host.path("cache/results/net-aa-eth0"), "").unwrap();
        cni.add(&pod.network).unwrap();
        cni.check(&pod.network).unwrap();
        cni.del(&pod.network).unwrap();
    });
}

/// The path of the namespace leads to another one by now, as `/proc/PID` does after a reboot.
#[test]
fn another_namespace_at_the_recorded_path_is_left_alone() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let bridge = host.bridge("br0", r#"[[{"subnet":"10.9.0.0/24"}]]"#, "");
    host.configure("10.conflist", "1.0.0", "net", &format!("[{bridge}]"));
    let cni = host.cni();
    host.namespace.run(|| {
        let (lost, other) = (Pod::new("aa"), Pod::new("bb"));
        cni.add(&lost.network).unwrap();
        cni.add(&other.network).unwrap();
        let path = host.path("cache/results/net-aa-eth0");
        let record = fs::read_to_string(&path).unwrap();
        let moved = record.replace(
            lost.network.netns.to_str().unwrap(),
            other.network.netns.to_str().unwrap(),
        );
        fs::write(&path, moved).unwrap();
        cni.del_again("aa", "eth0").unwrap();
        assert_eq!(host.reserved("net"), ["10.9.0.3"]);
        assert!(other.namespace.link("eth0").is_some(), "the other pod's");
        cni.check(&other.network).unwrap();
        cni.del(&other.network).unwrap();
    });
}

#[test]
fn a_ready_network_is_not_asked_for_each_pod() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    host.plugin(
        "new",
        r#"echo "$CNI_COMMAND" >> "$(dirname "$0")/../calls"; [ -e "$(dirname "$0")/../ready" ]"#,
    );
    host.configure("10.conflist", "1.1.0", "net", r#"[{"type":"new"}]"#);
    let cni = host.cni();
    cni.status().unwrap_err();
    cni.status().unwrap_err();
    fs::write(host.path("ready"), "").unwrap();
    for _ in 0..5 {
        cni.status().unwrap();
    }
    assert_eq!(calls(&host), ["STATUS"; 3]);
    // Another configuration is another network.
    host.configure("10.conflist", "1.1.0", "net", r#"[{"type":"new","x":1}]"#);
    cni.status().unwrap();
    assert_eq!(calls(&host), ["STATUS"; 4]);
    let impatient = Cni::new(CniSettings {
        timeouts: Timeouts {
            status_holds: Duration::ZERO,
            ..Timeouts::default()
        },
        ..host.settings()
    });
    impatient.status().unwrap();
    fs::remove_file(host.path("ready")).unwrap();
    impatient.status().unwrap_err();
}

#[test]
fn a_missing_plugin_stops_the_pod_before_anything_is_done() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    host.plugin("first", LOGGING);
    host.configure(
        "10.conflist",
        "1.0.0",
        "net",
        r#"[{"type":"first"},{"type":"absent"}]"#,
    );
    let cni = host.cni();
    let pod = Pod::new("aa");
    let reason = cni.status().unwrap_err().reason;
    assert!(
        reason.contains("`absent`") && reason.contains("plugins"),
        "{reason}"
    );
    let error = host.namespace.run(|| cni.add(&pod.network)).unwrap_err();
    assert!(matches!(error, CniError::Find { .. }), "{error:?}");
    assert!(calls(&host).is_empty());
    // It appears, and nothing has to be restarted.
    host.plugin("absent", LOGGING);
    cni.status().unwrap();
    host.namespace.run(|| cni.add(&pod.network)).unwrap();
}

#[test]
fn a_missing_namespace_is_named() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    host.configure(
        "10.conflist",
        "1.0.0",
        "net",
        &format!(
            "[{}]",
            host.bridge("br0", r#"[[{"subnet":"10.9.0.0/24"}]]"#, "")
        ),
    );
    let mut pod = Pod::new("aa").network;
    let plain_file = host.path("pin");
    fs::write(&plain_file, "").unwrap();
    for path in [plain_file.as_path(), Path::new("/nonexistent/ns")] {
        pod.netns = path.to_owned();
        let error = host.namespace.run(|| host.cni().add(&pod)).unwrap_err();
        assert!(
            matches!(&error, CniError::Netns { path: named, .. } if named == path),
            "{error:?}"
        );
        host.namespace.run(|| host.cni().del(&pod)).unwrap();
    }
    for (id, ifname) in [
        ("../x", "eth0"),
        ("", "eth0"),
        ("aa", "a/b"),
        ("aa", "a-name-far-too-long"),
    ] {
        let pod = crioxide_cni::PodNetwork {
            id: id.to_owned(),
            ifname: ifname.to_owned(),
            ..pod.clone()
        };
        assert!(
            matches!(host.cni().add(&pod), Err(CniError::Pod { .. })),
            "{id} {ifname}"
        );
    }
}

#[test]
fn del_uses_what_add_used() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let bridge = host.bridge(
        "br0",
        r#"[[{"subnet":"10.9.0.0/24"}]]"#,
        r#","ipMasq":true"#,
    );
    host.configure("10.conflist", "1.0.0", "net", &format!("[{bridge}]"));
    host.namespace.run(|| {
        let pod = Pod::new("aa");
        host.cni().add(&pod.network).unwrap();
        fs::remove_file(host.path("net.d/10.conflist")).unwrap();
        host.plugin("bridge", "echo must not run >&2; exit 9");
        // Another process, that remembers nothing.
        host.cni().del(&pod.network).unwrap();
        assert!(host.reserved("net").is_empty() && host.records().is_empty());
        assert!(!host.ruleset().contains("aa/eth0"));
        host.cni().del(&pod.network).unwrap();
    });
}

#[test]
fn a_failed_del_is_kept_and_tried_again() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    host.plugin(
        "sticky",
        r#"if [ "$CNI_COMMAND" = ADD ]; then echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.9/24"}]}'; exit; fi
[ ! -e "$(dirname "$0")/../stuck" ]"#,
    );
    host.configure("10.conflist", "1.0.0", "net", r#"[{"type":"sticky"}]"#);
    let pod = Pod::new("aa");
    let cni = host.cni();
    host.namespace.run(|| cni.add(&pod.network)).unwrap();
    fs::write(host.path("stuck"), "").unwrap();
    for _ in 0..2 {
        let error = host.namespace.run(|| cni.del(&pod.network)).unwrap_err();
        assert!(matches!(error, CniError::Del { .. }), "{error:?}");
        assert_eq!(host.records().len(), 1);
    }
    fs::remove_file(host.path("stuck")).unwrap();
    host.namespace.run(|| cni.del(&pod.network)).unwrap();
    assert!(host.records().is_empty());
}

/// The daemon dies inside ADD: the plugin ends its own process group's parent, here by a thread that
/// never returns. What is left is the intent and the plugins' traces, and GC removes both.
#[test]
fn a_crash_inside_add_is_cleaned_up() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let bridge = host.bridge(
        "br0",
        r#"[[{"subnet":"10.9.0.0/24"}]]"#,
        r#","ipMasq":true"#,
    );
    host.plugin(
        "late",
        r#"[ "$CNI_COMMAND" = ADD ] || exit 0; touch "$(dirname "$0")/../reached"; sleep 500"#,
    );
    host.configure(
        "10.conflist",
        "1.0.0",
        "net",
        &format!(r#"[{bridge},{{"type":"late"}}]"#),
    );
    let (pod, kept) = (Pod::new("aa"), Pod::new("bb"));
    // Records as a crash leaves them: taken while ADD runs, put back after it was undone.
    let snapshot = host.path("snapshot");
    host.namespace.run(|| {
        let timeouts = Timeouts {
            add: Duration::from_secs(3),
            ..Timeouts::default()
        };
        let cni = Cni::new(CniSettings {
            timeouts,
            ..host.settings()
        });
        std::thread::scope(|scope| {
            let adding = scope.spawn(|| cni.add(&pod.network));
            eventually("ADD is in its last plugin", || {
                exists(&host.path("reached"))
            });
            copy_dir(&host.path("cache"), &snapshot.join("cache"));
            copy_dir(&host.path("ipam"), &snapshot.join("ipam"));
            adding.join().unwrap().unwrap_err();
        });
        assert!(host.records().is_empty() && host.reserved("net").is_empty());
        copy_dir(&snapshot.join("cache"), &host.path("cache"));
        copy_dir(&snapshot.join("ipam"), &host.path("ipam"));
        assert_eq!(host.reserved("net"), ["10.9.0.2"]);

        host.plugin(
            "late",
            r#"[ "$CNI_COMMAND" = ADD ] || exit 0; cat | sed 's/.*"prevResult"://; s/}$//'"#,
        );
        let cni = host.cni();
        cni.add(&kept.network).unwrap();
        let found = cni.attachments().unwrap();
        assert_eq!(found.len(), 2);
        assert!(
            found
                .iter()
                .any(|entry| entry.attachment.container_id == "aa" && entry.result.is_none())
        );
        let report = cni
            .gc(&|entry| entry.attachment.container_id == "bb")
            .unwrap();
        assert_eq!(report.removed.len(), 1, "{report:?}");
        assert!(
            report.kept.is_empty() && report.failures.is_empty(),
            "{report:?}"
        );
        assert_eq!(
            host.reserved("net"),
            ["10.9.0.3"],
            "the living pod keeps its address"
        );
        assert_eq!(host.records().len(), 1);
        cni.del(&kept.network).unwrap();
    });
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn keys_that_cannot_be_obeyed_are_refused() {
    if !is_root() {
        return;
    }
    for key in [
        r#","vlan":5000"#,
        r#","ipMasq":true,"ipMasqBackend":"ipfw""#,
        r#","hairpinMode":true,"promiscMode":true"#,
    ] {
        let host = Host::new();
        let bridge = host.bridge("br0", r#"[[{"subnet":"10.9.0.0/24"}]]"#, key);
        host.configure("10.conflist", "1.0.0", "net", &format!("[{bridge}]"));
        let pod = Pod::new("aa");
        let error = host
            .namespace
            .run(|| host.cni().add(&pod.network))
            .unwrap_err();
        let text = plugin_error(&error).to_string();
        assert!(text.contains("`bridge` failed (code"), "{key}: {text}");
        assert!(host.reserved("net").is_empty() && host.records().is_empty());
    }
}

#[test]
fn status_and_gc_of_version_1_1_0() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    host.plugin(
        "new",
        r#"dir="$(dirname "$0")/.."
case "$CNI_COMMAND" in
STATUS) [ -e "$dir/ready" ] || { echo '{"cniVersion":"1.1.0","code":50,"msg":"no controller"}'; exit 1; } ;;
GC) cat > "$dir/gc" ;;
ADD) echo '{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.9/24"}]}' ;;
esac"#,
    );
    host.configure("10.conflist", "1.1.0", "net", r#"[{"type":"new"}]"#);
    let cni = host.cni();
    let reason = cni.status().unwrap_err().reason;
    assert!(
        reason.contains("no controller") && reason.contains("`net`"),
        "{reason}"
    );
    fs::write(host.path("ready"), "").unwrap();
    cni.status().unwrap();
    let pod = Pod::new("aa");
    host.namespace.run(|| {
        cni.add(&pod.network).unwrap();
        let report = cni.gc(&|_| true).unwrap();
        assert!(
            report.removed.is_empty() && report.failures.is_empty(),
            "{report:?}"
        );
    });
    let told = fs::read_to_string(host.path("gc")).unwrap();
    let valid = r#""cni.dev/valid-attachments":[{"containerID":"aa","ifname":"eth0"}]"#;
    assert!(told.contains(valid), "{told}");
}

/// A port whose pod vanished with its record is free again after GC.
#[test]
fn gc_frees_host_ports_nobody_remembers() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let bridge = host.bridge("br0", r#"[[{"subnet":"10.9.0.0/24"}]]"#, "");
    host.configure("10.conflist", "1.0.0", "net", &format!("[{bridge}]"));
    let cni = host.cni();
    let ports = vec![crioxide_cni::PortMapping {
        host_port: 8080,
        container_port: 80,
        protocol: crioxide_cni::Protocol::Tcp,
        host_ip: String::new(),
    }];
    let (mut lost, mut next) = (Pod::new("aa"), Pod::new("bb"));
    lost.network.port_mappings.clone_from(&ports);
    next.network.port_mappings = ports;
    host.namespace.run(|| {
        cni.add(&lost.network).unwrap();
        fs::remove_dir_all(host.path("cache/results")).unwrap();
        cni.add(&next.network).unwrap_err();
        let report = cni.gc(&|_| true).unwrap();
        assert!(report.failures.is_empty(), "{report:?}");
        assert!(host.reserved("net").is_empty());
        cni.add(&next.network).unwrap();
    });
}
