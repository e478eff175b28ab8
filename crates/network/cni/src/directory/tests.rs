use super::*;

fn conf(name: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0","name":"{name}","type":"bridge"}}"#)
}

#[test]
fn lexical_order_names_and_live_changes() {
    let dir = tempfile::tempdir().unwrap();
    let networks = ConfDir::new(dir.path().to_owned());
    let reason = networks.default_network(None).unwrap_err().reason;
    assert!(
        reason.contains("Has your network provider started?"),
        "{reason}"
    );
    assert!(networks.is_empty().unwrap());

    fs::write(dir.path().join("20-b.conf"), conf("b")).unwrap();
    assert_eq!(networks.default_network(None).unwrap().name, "b");
    fs::write(dir.path().join("10-a.json"), conf("a")).unwrap();
    fs::write(dir.path().join("00-ignored.txt"), "x").unwrap();
    assert_eq!(networks.default_network(None).unwrap().name, "a");
    assert_eq!(networks.default_network(Some("b")).unwrap().name, "b");
    let reason = networks.default_network(Some("c")).unwrap_err().reason;
    assert!(reason.contains("`c` is not configured"), "{reason}");

    // Replaced by a file of the same size within the clock's grain: the inode tells.
    fs::write(dir.path().join("new"), conf("z")).unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("10-a.json")).unwrap();
    assert_eq!(networks.default_network(None).unwrap().name, "z");
}

#[test]
fn a_malformed_file_is_named_and_others_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let networks = ConfDir::new(dir.path().to_owned());
    fs::write(
        dir.path().join("10-half.conflist"),
        r#"{"cniVersion":"1.0.0","na"#,
    )
    .unwrap();
    let reason = networks.default_network(None).unwrap_err().reason;
    assert!(
        reason.contains("10-half.conflist") && reason.contains("EOF"),
        "{reason}"
    );
    assert!(!networks.is_empty().unwrap());
    fs::write(dir.path().join("20-b.conf"), conf("b")).unwrap();
    fs::write(dir.path().join("30-b.conf"), conf("b")).unwrap();
    assert_eq!(networks.default_network(None).unwrap().name, "b");
    let failures = networks.load().unwrap().failures.clone();
    assert!(
        failures.iter().any(|failure| failure.contains("30-b.conf")),
        "{failures:?}"
    );
}

/// Plugins may be dropped into the folder of a list without touching the list itself.
#[test]
fn plugins_from_the_lists_folder() {
    let dir = tempfile::tempdir().unwrap();
    let networks = ConfDir::new(dir.path().to_owned());
    let list = dir.path().join("10-net.conflist");
    let types = |networks: &ConfDir| -> Vec<String> {
        let list = networks.default_network(None).unwrap();
        let recorded = NetworkList::parse_list(Path::new("record"), &list.bytes).unwrap();
        let of = |list: &NetworkList| -> Vec<_> {
            list.plugins
                .iter()
                .map(|plugin| plugin.plugin_type.clone())
                .collect()
        };
        assert_eq!(of(&recorded), of(&list), "the record is complete");
        of(&list)
    };
    fs::write(
        &list,
        r#"{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"a"}]}"#,
    )
    .unwrap();
    assert_eq!(types(&networks), ["a"]);
    let folder = dir.path().join("net");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("20.conf"), r#"{"type":"c"}"#).unwrap();
    fs::write(folder.join("10.conf"), r#"{"type":"b"}"#).unwrap();
    fs::write(folder.join("05.conflist"), r#"{"type":"ignored"}"#).unwrap();
    assert_eq!(types(&networks), ["a", "b", "c"]);
    fs::write(
        &list,
        r#"{"cniVersion":"1.1.0","name":"net","loadOnlyInlinedPlugins":true,"plugins":[{"type":"a"}]}"#,
    )
    .unwrap();
    assert_eq!(types(&networks), ["a"]);
    fs::write(&list, r#"{"cniVersion":"1.1.0","name":"net"}"#).unwrap();
    assert_eq!(types(&networks), ["b", "c"]);

    for bad in [r#"{"type":"../evil"}"#, "{", r#"{"no":"type"}"#] {
        fs::write(folder.join("20.conf"), bad).unwrap();
        let reason = networks.default_network(None).unwrap_err().reason;
        assert!(reason.contains("20.conf"), "{reason}");
    }
    fs::remove_dir_all(&folder).unwrap();
    let reason = networks.default_network(None).unwrap_err().reason;
    assert!(reason.contains("has no plugin"), "{reason}");
}
