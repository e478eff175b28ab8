use super::*;

/// Loads a configuration made of a minimal one with `changes` merged over its top level.
fn load(changes: serde_json::Value) -> Result<Bundle, BundleError> {
    let mut config = serde_json::json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["true"], "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "network"}]},
        "somethingNew": {"ignored": true},
    });
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    Bundle::load(directory.path())
}

#[test]
fn unknown_fields_are_accepted() {
    let bundle = load(serde_json::json!({})).unwrap();
    assert!(bundle.root_path.ends_with("rootfs"));
    assert_eq!(bundle.propagation, RootPropagation::Slave);
}

#[test]
fn ids_beyond_the_kernels_are_refused() {
    for uid in [
        serde_json::json!(4_294_967_295_u64),
        serde_json::json!(4_294_967_296_u64),
        serde_json::json!(-1),
    ] {
        let process = serde_json::json!({"cwd": "/", "user": {"uid": uid, "gid": 0}});
        assert!(
            load(serde_json::json!({"process": process})).is_err(),
            "{uid}"
        );
    }
}

#[test]
fn sysctls_of_the_host_are_refused() {
    let with = |sysctl: serde_json::Value, namespaces: serde_json::Value| {
        load(serde_json::json!({"linux": {"namespaces": namespaces, "sysctl": sysctl}})).map(drop)
    };
    let own = serde_json::json!([{"type": "mount"}, {"type": "network"}, {"type": "ipc"}]);
    let host = serde_json::json!([{"type": "mount"}]);
    let hosts_by_path =
        serde_json::json!([{"type": "mount"}, {"type": "network", "path": "/proc/self/ns/net"}]);
    let forward = serde_json::json!({"net.ipv4.ip_forward": "1"});
    assert!(with(forward.clone(), own.clone()).is_ok());
    assert!(
        with(
            serde_json::json!({"kernel.shm_rmid_forced": "1"}),
            own.clone()
        )
        .is_ok()
    );
    assert!(matches!(
        with(forward.clone(), host),
        Err(BundleError::HostSysctl { .. })
    ));
    assert!(matches!(
        with(forward, hosts_by_path),
        Err(BundleError::HostSysctl { .. })
    ));
    for name in [
        "kernel.core_pattern",
        "vm.swappiness",
        "net/../kernel/core_pattern",
        "net",
        "",
        "kernel.hostname",
    ] {
        assert!(
            with(serde_json::json!({name: "1"}), own.clone()).is_err(),
            "{name}"
        );
    }
}

#[test]
fn contradictions_are_refused() {
    assert!(load(serde_json::json!({"hostname": "x"})).is_err());
    assert!(load(serde_json::json!({"linux": {"namespaces": []}})).is_err());
    assert!(
        load(serde_json::json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "mount"}]}}))
            .is_err()
    );
    assert!(
        load(serde_json::json!({"mounts": [{"destination": "proc", "type": "proc"}]})).is_err()
    );
    assert!(
        load(serde_json::json!({"process": {"cwd": "tmp", "user": {"uid": 0, "gid": 0}}})).is_err()
    );
}

#[test]
fn oversized_configuration_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(directory.path().join("config.json")).unwrap();
    file.set_len(20_u64 << 30).unwrap();
    assert!(matches!(
        Bundle::load(directory.path()),
        Err(BundleError::Read(ReadLimitedError::TooLarge { .. }))
    ));
}
