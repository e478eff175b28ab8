use super::*;

fn list(text: &str) -> Result<NetworkList, ParseConfigError> {
    NetworkList::parse_list(Path::new("/etc/cni/net.d/10-a.conflist"), text.as_bytes())
}

#[test]
fn reads_lists_and_wraps_single_plugins() {
    let network = list(
        r#"{"cniVersion":"0.4.0","name":"a","disableCheck":"true","plugins":[
            {"type":"bridge","ipam":{"type":"host-local"}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#,
    )
    .unwrap();
    assert_eq!(
        (network.name.as_str(), network.version),
        ("a", SpecVersion::V0_4_0)
    );
    assert!(network.disable_check && !network.disable_gc);
    assert!(network.plugins[1].has_capability("portMappings"));
    assert!(!network.plugins[0].has_capability("portMappings"));

    let path = Path::new("10-b.conf");
    let single =
        NetworkList::parse_single(path, br#"{"cniVersion":"1.0.0","name":"b","type":"ptp"}"#)
            .unwrap();
    let again = NetworkList::parse_list(path, &single.bytes).unwrap();
    assert_eq!(
        (again.name.as_str(), again.plugins[0].plugin_type.as_str()),
        ("b", "ptp")
    );
}

#[test]
fn the_newest_offered_version_wins() {
    let network = list(
        r#"{"cniVersion":"0.4.0","cniVersions":["0.4.0","1.1.0","9.0.0"],"name":"a","plugins":[{"type":"x"}]}"#,
    );
    assert_eq!(network.unwrap().version, SpecVersion::V1_1_0);
}

#[test]
fn refusals_name_the_file_and_the_key() {
    let cases = [
        ("{", "parse CNI configuration"),
        (
            r#"{"cniVersion":"1.0.0","plugins":[{"type":"x"}]}"#,
            "`name`",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"../a","plugins":[{"type":"x"}]}"#,
            "`name`",
        ),
        (r#"{"cniVersion":"1.0.0","name":"a"}"#, "`plugins`"),
        (
            r#"{"cniVersion":"1.0.0","name":"a","plugins":[]}"#,
            "`plugins` is empty",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"a","plugins":[{}]}"#,
            "`type`",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"../../bin/sh"}]}"#,
            "plain name",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"x","ipam":{"type":"a/b"}}]}"#,
            "`ipam`",
        ),
        (
            r#"{"cniVersion":"1.0.0","name":"a","disableCheck":3,"plugins":[{"type":"x"}]}"#,
            "`disableCheck`",
        ),
    ];
    for (text, expected) in cases {
        let error = list(text).unwrap_err().to_string();
        assert!(
            error.contains("10-a.conflist") && error.contains(expected),
            "{text}: {error}"
        );
    }
    for old in ["0.1.0", "0.2.0", "", "2.0.0"] {
        let text = format!(r#"{{"cniVersion":"{old}","name":"a","plugins":[{{"type":"x"}}]}}"#);
        assert!(
            matches!(list(&text), Err(ParseConfigError::Version { .. })),
            "{old}"
        );
    }
}
