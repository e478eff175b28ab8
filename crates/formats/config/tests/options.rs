//! The option table as a whole: defaults, names, and that every key is read.
#![allow(clippy::unwrap_used, reason = "the panic is the test's report")]

use crioxide_config::{
    CommandLineOptions, Config, ConfigFile, Detail, HostDefaults, Kind, Literal, RuntimeHandler,
    TABLES, Value, Workload, WorkloadResources, config_template, effective_toml, resolve,
};

/// Compares with a checked-in file. `UPDATE_GOLDEN=1` writes it instead.
fn assert_golden(name: &str, actual: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        actual == expected,
        "{name} differs; UPDATE_GOLDEN=1 rewrites it:\n{actual}"
    );
}

#[test]
fn defaults_are_those_of_crio() {
    assert_golden("defaults.toml", &effective_toml(&Config::default()));
}

#[test]
fn names_of_flags_and_variables() {
    let mut text = String::new();
    for option in TABLES.iter().flat_map(|table| table.options) {
        let flag = option
            .flag()
            .map_or("-".to_owned(), |flag| format!("--{flag}"));
        text.push_str(&format!(
            "{} {flag} {}\n",
            option.path(),
            option.variables().join(" ")
        ));
    }
    for option in CommandLineOptions::OPTIONS {
        text.push_str(&format!(
            "- --{} {}\n",
            option.flag().unwrap(),
            option.variables().join(" ")
        ));
    }
    assert_golden("flags.txt", &text);
}

#[test]
fn no_flag_variable_or_letter_is_given_twice() {
    let mut seen = std::collections::BTreeSet::new();
    let mut claim = |name: String| assert!(seen.insert(name.clone()), "{name} is given twice");
    for option in TABLES.iter().flat_map(|table| table.options) {
        option
            .flag()
            .into_iter()
            .chain(option.variables())
            .for_each(&mut claim);
        option
            .short
            .map(String::from)
            .into_iter()
            .chain(option.alias.map(str::to_owned))
            .for_each(&mut claim);
    }
    for option in CommandLineOptions::OPTIONS {
        option
            .flag()
            .into_iter()
            .chain(option.variables())
            .for_each(&mut claim);
        option
            .short
            .map(String::from)
            .into_iter()
            .for_each(&mut claim);
    }
}

#[test]
fn every_declared_default_has_its_type_and_documentation() {
    macro_rules! check {
        ($options:expr, $owner:expr) => {
            for option in $options {
                let mut owner = $owner;
                option
                    .set(&mut owner, &option.default.to_value())
                    .unwrap_or_else(|error| panic!("{option:?}: {error}"));
                assert!(
                    option.summary().ends_with('.'),
                    "{option:?} has no documentation that ends in a full stop"
                );
                let fits = matches!(
                    (option.kind, option.default),
                    (Kind::Bool, Literal::Bool(_))
                        | (Kind::Integer, Literal::Integer(_))
                        | (Kind::Text | Kind::Duration, Literal::Text(_))
                        | (Kind::List, Literal::List(_))
                        | (Kind::Map, Literal::EmptyMap)
                );
                assert!(fits, "{option:?}");
            }
        };
    }
    for table in TABLES {
        check!(table.options, Config::default());
    }
    check!(RuntimeHandler::OPTIONS, RuntimeHandler::default());
    check!(Workload::OPTIONS, Workload::default());
    check!(WorkloadResources::OPTIONS, WorkloadResources::default());
    check!(CommandLineOptions::OPTIONS, CommandLineOptions::default());
}

/// A value of the option's kind that is not its default and passes every check.
fn other_value(path: &str, kind: Kind, default: &Value) -> String {
    let special = match path {
        "crio.api.stream_enable_tls" => "true\nstream_tls_cert = \"/c\"\nstream_tls_key = \"/k\"",
        "crio.storage_driver" => "\"vfs\"",
        "crio.api.stream_port" => "\"4711\"",
        "crio.api.tls_min_version" => "\"VersionTLS13\"",
        "crio.api.tls_cipher_suites" => "[\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]",
        "crio.runtime.default_ulimits" => "[\"nofile=1024:2048\"]",
        "crio.runtime.default_sysctls" => "[\"net.ipv4.ip_forward=1\"]",
        "crio.runtime.default_env" => "[\"A=b\"]",
        "crio.runtime.additional_devices" => "[\"/dev/fuse:/dev/x:rw\"]",
        "crio.runtime.default_capabilities" => "[\"CAP_SYS_ADMIN\", \"KILL\"]",
        "crio.runtime.cgroup_manager" => "\"cgroupfs\"",
        "crio.runtime.separate_pull_cgroup" => "\"pod\"",
        "crio.runtime.conmon_cgroup" => "\"pod\"",
        "crio.runtime.log_level" => "\"debug\"",
        "crio.runtime.log_size_max" => "8192",
        "crio.runtime.ctr_stop_timeout" => "60",
        "crio.runtime.infra_ctr_cpuset" | "crio.runtime.shared_cpuset" => "\"0-1\"",
        "crio.runtime.uid_mappings" | "crio.runtime.gid_mappings" => "\"0:100000:65536\"",
        "crio.runtime.default_runtime" => {
            "\"runc\"\nruntimes.runc.runtime_path = \"/usr/sbin/runc\""
        }
        "crio.checkpoint_restore.container_level_enabled" => "\"none\"",
        "crio.image.image_volumes" => "\"bind\"",
        "crio.image.short_name_mode" => "\"disabled\"",
        "crio.metrics.metrics_collectors" => "[\"container_runtime_crio_operations_total\"]",
        "crio.stats.included_pod_metrics" => "[\"cpu\", \"memory\"]",
        _ => "",
    };
    if !special.is_empty() {
        return special.to_owned();
    }
    match (kind, default) {
        (Kind::Bool, Value::Bool(flag)) => (!flag).to_string(),
        (Kind::Integer, Value::Integer(number)) => (number + 1234).to_string(),
        (Kind::Duration, _) => "\"17s\"".to_owned(),
        (Kind::List, _) => "[\"/some/thing\"]".to_owned(),
        _ => "\"/some/thing\"".to_owned(),
    }
}

#[test]
fn every_key_is_read() {
    for table in TABLES {
        for option in table.options {
            let default = option.get(&Config::default());
            let value = other_value(&option.path(), option.kind, &default);
            let text = format!("[{}]\n{} = {value}\n", table.name, option.key);
            let loaded = resolve(&HostDefaults::default(), &[ConfigFile::new("f", text)], &[])
                .unwrap_or_else(|error| panic!("{}: {error}", option.path()));
            assert_ne!(
                option.get(&loaded.config),
                default,
                "{} is not taken over",
                option.path()
            );
            let unknown = loaded
                .warnings
                .iter()
                .any(|warning| warning.to_string().contains("unknown key"));
            assert!(!unknown, "{:?}", loaded.warnings);
        }
    }
}

#[test]
fn every_key_refuses_another_type() {
    for table in TABLES {
        for option in table.options {
            let wrong = if option.kind == Kind::Bool {
                "1"
            } else {
                "true"
            };
            let text = format!("# comment\n[{}]\n{} = {wrong}\n", table.name, option.key);
            let error = resolve(
                &HostDefaults::default(),
                &[ConfigFile::new("/etc/x.conf", text)],
                &[],
            )
            .unwrap_err();
            let message = error.to_string();
            assert!(message.contains("/etc/x.conf: line 3"), "{message}");
            assert!(
                message.contains(&option.path()) && message.contains(wrong),
                "{message}"
            );
        }
    }
}

/// Live lines only.
fn without_comments(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with('[') && !line.is_empty())
        .collect()
}

#[test]
fn template() {
    let host = HostDefaults::default();
    let config = Config::default();
    let changed = config_template(&config, &host, Detail::Changed);
    assert_golden("template.toml", &changed);
    assert_eq!(without_comments(&changed), "");

    let everything = config_template(&config, &host, Detail::Everything);
    let loaded = resolve(&host, &[ConfigFile::new("default.conf", everything)], &[]).unwrap();
    assert!(
        loaded.config == config,
        "{}",
        effective_toml(&loaded.config)
    );
    assert_eq!(loaded.warnings, []);
}

#[test]
fn template_shows_changes_only() {
    let text = "[crio.runtime]\nlog_level = \"debug\"\n[crio.runtime.runtimes.runc]\nruntime_path = \"/usr/sbin/runc\"\n";
    let host = HostDefaults::default();
    let config = resolve(&host, &[ConfigFile::new("f", text)], &[])
        .unwrap()
        .config;
    let printed = config_template(&config, &host, Detail::Changed);
    let live = without_comments(&printed);
    assert!(live.starts_with("log_level = \"debug\""), "{live}");
    assert!(
        printed.contains("\n[crio.runtime.runtimes.crun]\nruntime_path = \"builtin\"\n"),
        "{printed}"
    );
    let again = resolve(&host, &[ConfigFile::new("g", printed)], &[])
        .unwrap()
        .config;
    assert!(again == config, "{}", effective_toml(&again));
}

#[test]
fn effective_toml_is_read_back() {
    let text = "[crio.runtime.workloads.w]\nactivation_annotation = \"a/b\"\n[crio.runtime.workloads.w.resources]\n\
                cpushares = 5\n[crio.runtime.runtimes.\"x.y\"]\nruntime_path = \"/bin/x\\\"\\\\\"\n\
                platform_runtime_paths = { \"linux/arm64\" = \"/bin/arm\" }\n";
    let host = HostDefaults::default();
    let config = resolve(&host, &[ConfigFile::new("f", text)], &[])
        .unwrap()
        .config;
    let again = resolve(&host, &[ConfigFile::new("g", effective_toml(&config))], &[])
        .unwrap()
        .config;
    assert!(again == config, "{}", effective_toml(&again));
}
