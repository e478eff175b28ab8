//! What is refused, with messages that name file, line, key and value.
#![allow(clippy::unwrap_used, reason = "the panic is the test's report")]

use crioxide_config::{
    Config, ConfigFile, HostDefaults, ReloadKind, apply_reload_step, reload_steps, resolve,
};

fn message(text: &str) -> String {
    resolve(
        &HostDefaults::default(),
        &[ConfigFile::new("/etc/crio/crio.conf", text)],
        &[],
    )
    .unwrap_err()
    .to_string()
}

/// Table, line and a part of the message.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "crio",
        "log_dir = \"logs\"",
        "log_dir is not an absolute path",
    ),
    (
        "crio",
        "storage_driver = \"floppy\"",
        "unknown storage driver",
    ),
    (
        "crio.api",
        "tls_min_version = \"VersionTLS11\"",
        "unsupported TLS version",
    ),
    (
        "crio.api",
        "tls_cipher_suites = [\"NONE\"]",
        "unsupported TLS cipher suite \"NONE\"",
    ),
    ("crio.api", "stream_port = \"http\"", "is not a port number"),
    (
        "crio.runtime",
        "cgroup_manager = \"fs\"",
        "unrecognized cgroup manager type \"fs\"",
    ),
    (
        "crio.runtime",
        "log_level = \"loud\"",
        "not a valid logrus Level: \"loud\"",
    ),
    (
        "crio.runtime",
        "log_size_max = 100",
        "log size max should be negative or >= 8192",
    ),
    (
        "crio.runtime",
        "default_ulimits = [\"zap=1\"]",
        "invalid ulimit type: zap",
    ),
    (
        "crio.runtime",
        "default_sysctls = [\"a = b\"]",
        "not a valid sysctl",
    ),
    (
        "crio.runtime",
        "default_capabilities = [\"FLY\"]",
        "unknown capability \"FLY\"",
    ),
    (
        "crio.runtime",
        "additional_devices = [\"x\"]",
        "is not a valid device",
    ),
    (
        "crio.runtime",
        "additional_devices = [\"/dev/a:/dev/b:z\"]",
        "invalid device mode",
    ),
    (
        "crio.runtime",
        "additional_artifact_stores = [\"rel\"]",
        "additional_artifact_stores entry must be absolute: \"rel\"",
    ),
    (
        "crio.runtime",
        "default_runtime = \"x\"",
        "default_runtime set to \"x\", but no runtime entry table [crio.runtime.runtimes.x] was found",
    ),
    (
        "crio.runtime",
        "infra_ctr_cpuset = \"a-b\"",
        "invalid CPU set",
    ),
    (
        "crio.runtime",
        "uid_mappings = \"0:1\"",
        "invalid id mapping",
    ),
    (
        "crio.runtime",
        "separate_pull_cgroup = \"here\"",
        "separate pull cgroup should be 'pod' or a systemd slice",
    ),
    (
        "crio.runtime.runtimes.crun",
        "monitor_cgroup = \"x\"",
        "conmon cgroup should be 'pod' or a systemd slice",
    ),
    (
        "crio.runtime.runtimes.crun",
        "runtime_type = \"jail\"",
        "invalid `runtime_type` \"jail\"",
    ),
    (
        "crio.runtime.runtimes.crun",
        "runtime_path = \"bin/crun\"",
        "runtime_path must be absolute",
    ),
    (
        "crio.runtime.runtimes.crun",
        "runtime_config_path = \"/x\"",
        "'vm' runtime type",
    ),
    (
        "crio.runtime.runtimes.crun",
        "allowed_annotations = [\"zap\"]",
        "unrecognized allowed annotation \"zap\"",
    ),
    (
        "crio.runtime.workloads.w",
        "annotation_prefix = \"p\"",
        "annotation shouldn't be empty",
    ),
    (
        "crio.checkpoint_restore",
        "container_level_enabled = \"some\"",
        "container_level_enabled",
    ),
    (
        "crio.image",
        "image_volumes = \"copy\"",
        "unrecognized image volume type specified",
    ),
    (
        "crio.image",
        "short_name_mode = \"lax\"",
        "invalid short name mode",
    ),
    (
        "crio.image",
        "pull_progress_timeout = \"5\"",
        "time: missing unit in duration \"5\"",
    ),
    (
        "crio.image",
        "namespaced_auth_dir = \"auth\"",
        "namespaced_auth_dir is not an absolute path",
    ),
    (
        "crio.network",
        "cni_status_grace_period = \"-1s\"",
        "must not be negative",
    ),
    (
        "crio.metrics",
        "metrics_collectors = [\"zap\"]",
        "unknown metrics collector \"zap\"",
    ),
    (
        "crio.metrics",
        "metrics_port = 70000",
        "70000 is not between 0 and 65535",
    ),
    (
        "crio.stats",
        "included_pod_metrics = [\"zap\"]",
        "invalid pod metric \"zap\"",
    ),
    (
        "crio.stats",
        "included_pod_metrics = [\"all\", \"cpu\"]",
        "\"all\" must be the only entry",
    ),
];

#[test]
fn values_that_crio_refuses() {
    for (table, line, reason) in REFUSED {
        let message = message(&format!("[{table}]\n{line}\n"));
        assert!(message.contains(reason), "{line}: {message}");
        let key = line.split(' ').next().unwrap();
        // The workload lacks a key, so no line can be named.
        if !table.contains("workloads") {
            assert!(message.contains("/etc/crio/crio.conf:2"), "{message}");
            assert!(message.contains(&format!("{table}.{key}")), "{message}");
        }
    }
}

#[test]
fn values_that_do_not_fit_each_other() {
    assert!(
        message("[crio.api]\nstream_enable_tls = true\n").contains("stream TLS cert path is empty")
    );
    assert!(
        message("[crio.api]\nstream_enable_tls = true\nstream_tls_cert = \"/c\"\n")
            .contains("stream TLS key path is empty")
    );
    let text = "[crio.runtime]\ncgroup_manager = \"cgroupfs\"\nconmon_cgroup = \"x\"\n";
    assert!(
        message(text)
            .contains("cgroupfs manager conmon cgroup should be 'pod' or empty, but got: 'x'")
    );
    let text = "[crio.runtime.workloads.w]\nactivation_annotation = \"a\"\n[crio.runtime.workloads.w.resources]\n";
    assert!(
        message(&format!("{text}cpuperiod = 10\n")).contains("cpuperiod must be at least 1000")
    );
    assert!(message(&format!("{text}cpushares = -1\n")).contains("/etc/crio/crio.conf:4"));
    assert!(message(&format!("{text}cpuset = \"x\"\n")).contains("invalid CPU set"));
}

#[test]
fn syntax_errors_name_the_line() {
    let message = message("[crio]\nroot = \"/x\"\nroot = 5\n");
    assert!(
        message.starts_with("unable to decode configuration /etc/crio/crio.conf: line 3: "),
        "{message}"
    );
}

#[test]
fn a_broken_handler_that_is_not_the_default_is_dropped() {
    let text = "[crio.runtime.runtimes.bad]\nmonitor_cgroup = \"x\"\n[crio.runtime.runtimes.worse]\nruntime_type = \"q\"\n";
    let loaded = resolve(&HostDefaults::default(), &[ConfigFile::new("f", text)], &[]).unwrap();
    assert_eq!(loaded.config.runtimes.keys().collect::<Vec<_>>(), ["crun"]);
    assert_eq!(loaded.warnings.len(), 2);
}

#[test]
fn shims_have_their_name() {
    let shim = |path: &str| {
        let text = format!(
            "[crio.runtime.runtimes.kata]\nruntime_type = \"vm\"\nruntime_path = \"{path}\"\n"
        );
        let loaded = resolve(&HostDefaults::default(), &[ConfigFile::new("f", text)], &[]).unwrap();
        loaded.config.runtimes.contains_key("kata")
    };
    assert!(shim("/bin/containerd-shim-kata-v2"));
    assert!(!shim("/bin/containerd-shim-"));
    assert!(!shim("/bin/kata"));
}

#[test]
fn reload_takes_over_reloadable_keys_in_order() {
    let text = "[crio.runtime]\nlog_level = \"debug\"\nno_pivot = true\ncdi_spec_dirs = []\n\
                [crio.image]\npause_image = \"new\"\npinned_images = [\"a\", \"b\"]\n\
                [crio.runtime.runtimes.runc]\nruntime_path = \"/usr/sbin/runc\"\n";
    let loaded = resolve(&HostDefaults::default(), &[ConfigFile::new("f", text)], &[])
        .unwrap()
        .config;
    let mut running = Config::default();
    let steps = reload_steps(&running, &loaded);
    let kinds: Vec<_> = steps.iter().map(|step| step.kind).collect();
    assert_eq!(
        kinds,
        [
            ReloadKind::LogLevel,
            ReloadKind::PauseImage,
            ReloadKind::PinnedImages,
            ReloadKind::Registries,
            ReloadKind::Seccomp,
            ReloadKind::BlockIo,
            ReloadKind::Rdt,
            ReloadKind::Runtimes,
            ReloadKind::CdiSpecDirs,
        ]
    );
    let messages: Vec<_> = steps
        .iter()
        .flat_map(|step| &step.changes)
        .map(|change| change.message())
        .collect();
    assert_eq!(
        messages,
        [
            "Set config log_level to \"debug\"",
            "Set config pause_image to \"new\"",
            "Set config pinned_images to \"a,b\"",
            "Set config cdi_spec_dirs to \"[]\"",
        ]
    );
    for step in &steps {
        apply_reload_step(step, &mut running, &loaded);
    }
    assert_eq!(running.image.pause_image, "new");
    assert!(running.runtimes.contains_key("runc"));
    assert!(!running.runtime.no_pivot, "not reloadable");
}
