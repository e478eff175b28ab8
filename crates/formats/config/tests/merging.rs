//! Files on top of each other, and overrides on top of files.
#![allow(clippy::unwrap_used, reason = "the panic is the test's report")]

use std::path::PathBuf;

use crioxide_config::{
    CommandLineOptions, Config, ConfigFile, HostDefaults, Loaded, Override, RuntimeBinary, TABLES,
    override_from_flag, resolve,
};

fn load(files: &[&str]) -> Loaded {
    let files: Vec<_> = files
        .iter()
        .enumerate()
        .map(|(i, text)| ConfigFile::new(format!("/etc/{i:02}.conf"), *text))
        .collect();
    resolve(&HostDefaults::default(), &files, &[]).unwrap()
}

fn flag(key: &str, text: &str) -> Override {
    let texts = [text.to_owned()];
    if key == "runtimes" {
        let option = CommandLineOptions::OPTIONS
            .iter()
            .find(|option| option.key == key)
            .unwrap();
        return override_from_flag(option, &texts).unwrap();
    }
    let option = TABLES
        .iter()
        .flat_map(|table| table.options)
        .find(|option| option.path() == key)
        .unwrap();
    override_from_flag(option, &texts).unwrap()
}

fn with_flags(flags: &[(&str, &str)]) -> Config {
    let overrides: Vec<_> = flags.iter().map(|(key, text)| flag(key, text)).collect();
    resolve(&HostDefaults::default(), &[], &overrides)
        .unwrap()
        .config
}

#[test]
fn later_files_win_and_arrays_replace() {
    let loaded = load(&[
        "[crio.image]\npinned_images = [\"a\", \"b\"]\npause_image = \"p\"\n",
        "[crio.image]\npinned_images = [\"c\"]\n",
    ]);
    assert_eq!(loaded.config.image.pinned_images, ["c"]);
    assert_eq!(loaded.config.image.pause_image, "p");
}

#[test]
fn storage_options_add_up() {
    let host = HostDefaults {
        storage_options: vec!["overlay.a=1".into()],
        ..HostDefaults::default()
    };
    let files = [
        ConfigFile::new(
            "1",
            "[crio]\nstorage_option = [\"overlay.b=2\", \"overlay.c=3\"]\n",
        ),
        ConfigFile::new("2", "[crio]\nstorage_option = [\"overlay.b=2\"]\n"),
    ];
    let config = resolve(&host, &files, &[]).unwrap().config;
    assert_eq!(
        config.root.storage_option,
        ["overlay.a=1", "overlay.c=3", "overlay.b=2"]
    );
}

#[test]
fn empty_store_keys_inherit() {
    let host = HostDefaults {
        root: "/data".into(),
        storage_driver: "vfs".into(),
        ..HostDefaults::default()
    };
    let file = ConfigFile::new(
        "f",
        "[crio]\nroot = \"\"\nstorage_driver = \"\"\nrunroot = \"/x\"\n",
    );
    let config = resolve(&host, &[file], &[]).unwrap().config;
    assert_eq!(config.root.root, PathBuf::from("/data"));
    assert_eq!(config.root.storage_driver, "vfs");
    assert_eq!(config.root.runroot, PathBuf::from("/x"));
}

#[test]
fn a_handler_declared_again_loses_its_earlier_keys() {
    let loaded = load(&["[crio.runtime.runtimes.crun]\nruntime_path = \"/usr/bin/crun\"\n"]);
    let crun = &loaded.config.runtimes["crun"];
    assert_eq!(crun.binary, RuntimeBinary::Path("/usr/bin/crun".into()));
    assert!(crun.allowed_annotations.is_empty());
    assert_eq!(crun.container_min_memory, "12 MiB");
    assert_eq!(crun.monitor_env.len(), 1);
    assert_eq!(crun.runtime_root, PathBuf::from("/run/crun"));
}

#[test]
fn adding_a_handler_keeps_the_others() {
    let loaded = load(&[
        "[crio.runtime.runtimes.runc]\nruntime_root = \"/run/runc\"\n",
        "[crio.runtime.runtimes.gvisor]\nruntime_path = \"/bin/runsc\"\n",
    ]);
    let names: Vec<_> = loaded.config.runtimes.keys().collect();
    assert_eq!(names, ["crun", "gvisor", "runc"]);
    assert_eq!(
        loaded.config.runtimes["runc"].binary,
        RuntimeBinary::Search("runc".into())
    );
    assert_eq!(
        loaded.config.runtimes["crun"].container_min_memory,
        "500KiB"
    );
}

#[test]
fn the_built_in_runtime_is_used_until_crun_is_asked_for() {
    let binary = |text: &str| load(&[text]).config.runtimes["crun"].binary.clone();
    assert_eq!(binary(""), RuntimeBinary::Builtin);
    assert_eq!(
        binary("[crio.runtime]\ncgroup_manager = \"cgroupfs\"\n"),
        RuntimeBinary::Builtin
    );
    assert_eq!(
        binary("[crio.runtime.runtimes.runc]\n"),
        RuntimeBinary::Builtin
    );
    let search = RuntimeBinary::Search("crun".into());
    assert_eq!(
        binary("[crio.runtime]\ndefault_runtime = \"crun\"\n"),
        search
    );
    assert_eq!(
        binary("[crio.runtime]\nconmon = \"/usr/bin/conmon\"\n"),
        search
    );
    assert_eq!(
        binary("[crio.runtime.runtimes.crun]\nruntime_path = \"\"\n"),
        search
    );
    assert_eq!(
        binary("[crio.runtime.runtimes.crun]\nruntime_path = \"builtin\"\n"),
        RuntimeBinary::Builtin
    );
}

#[test]
fn handlers_may_inherit_the_default() {
    let loaded = load(&[
        "[crio.runtime]\ndefault_runtime = \"runc\"\n[crio.runtime.runtimes.runc]\nruntime_path = \"/r\"\n\
         runtime_root = \"/run/runc\"\n[crio.runtime.runtimes.child]\ninherit_default_runtime = true\n\
         container_min_memory = \"1g\"\n",
    ]);
    let child = &loaded.config.runtimes["child"];
    assert_eq!(child.binary, RuntimeBinary::Path("/r".into()));
    assert_eq!(child.runtime_root, PathBuf::from("/run/runc"));
    assert_eq!(child.minimum_memory_bytes(), Some(1 << 30));
}

#[test]
fn monitors_are_placed_by_the_cgroup_driver() {
    let placed = |text: &str| load(&[text]).config.runtimes["crun"].monitor_cgroup.clone();
    assert_eq!(placed(""), "system.slice");
    assert_eq!(
        placed("[crio.runtime]\ncgroup_manager = \"cgroupfs\"\n"),
        ""
    );
    assert_eq!(
        placed("[crio.runtime]\ncgroup_manager = \"cgroupfs\"\nconmon_cgroup = \"system.slice\"\n"),
        "",
        "the systemd default is dropped silently"
    );
}

#[test]
fn deprecated_conmon_keys_reach_every_handler() {
    let config = with_flags(&[
        ("crio.runtime.conmon", "/bin/true"),
        ("crio.runtime.conmon_cgroup", "pod"),
        ("crio.runtime.conmon_env", "A=b"),
        ("runtimes", "kata:/bin/kata:/run/kata"),
    ]);
    for handler in config.runtimes.values() {
        assert_eq!(handler.monitor_path, Some("/bin/true".into()));
        assert_eq!(handler.monitor_cgroup, "pod");
        assert_eq!(handler.monitor_env, ["A=b"]);
    }
    assert_eq!(config.runtimes.len(), 2);
}

#[test]
fn flags_beat_files() {
    let file = ConfigFile::new("f", "[crio.runtime]\nlog_level = \"debug\"\n");
    let given = flag("crio.runtime.log_level", "warn");
    let config = resolve(&HostDefaults::default(), &[file], &[given])
        .unwrap()
        .config;
    assert_eq!(config.runtime.log_level.as_str(), "warn");
}

#[test]
fn items_of_the_runtimes_flag() {
    let config = with_flags(&[("runtimes", "a:/bin/a:/run/a,b:/bin/b:/run/b:oci:true::1g")]);
    assert_eq!(
        config.runtimes["a"].binary,
        RuntimeBinary::Path("/bin/a".into())
    );
    assert_eq!(config.runtimes["a"].container_min_memory, "12 MiB");
    assert!(config.runtimes["b"].privileged_without_host_devices);
    assert_eq!(config.runtimes["b"].container_min_memory, "1g");
    for bad in ["a:/bin/a", "a:b:c:d:e:f:g:h", "a:/b:/c:oci:maybe"] {
        let error = resolve(&HostDefaults::default(), &[], &[flag("runtimes", bad)])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("flag --runtimes") && error.contains(bad),
            "{error}"
        );
    }
}

#[test]
fn plugin_dir_is_appended_with_a_warning() {
    let loaded = load(&["[crio.network]\nplugin_dir = \"/old\"\n"]);
    assert_eq!(
        loaded.config.network.plugin_dirs,
        [PathBuf::from("/opt/cni/bin/"), PathBuf::from("/old")]
    );
    assert!(
        loaded.warnings[0]
            .to_string()
            .contains("crio.network.plugin_dir")
    );
}

#[test]
fn unknown_keys_are_warnings_with_file_and_line() {
    let loaded =
        load(&["[crio]\nnew_thing = 1\n[crio.runtime.runtimes.crun]\nzap = 2\n[other]\nx = 1\n"]);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "/etc/00.conf:2: unknown key `crio.new_thing` is ignored",
            "/etc/00.conf:4: unknown key `crio.runtime.runtimes.crun.zap` is ignored",
            "/etc/00.conf:5: unknown key `other` is ignored",
        ]
    );
}

#[test]
fn low_stop_timeouts_are_raised() {
    let loaded = load(&["[crio.runtime]\nctr_stop_timeout = 5\n"]);
    assert_eq!(loaded.config.runtime.ctr_stop_timeout, 30);
    assert!(
        loaded.warnings[0].to_string().contains("/etc/00.conf:2"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn criu_support_turned_off_by_the_old_key() {
    let loaded = load(&["[crio.runtime]\nenable_criu_support = false\n"]);
    assert_eq!(
        loaded
            .config
            .checkpoint_restore
            .container_level_enabled
            .as_str(),
        "none"
    );
    assert!(
        loaded.warnings[0]
            .to_string()
            .contains("enable_criu_support` is deprecated")
    );
}
