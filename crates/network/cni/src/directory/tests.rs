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
