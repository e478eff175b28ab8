use super::*;

fn parameters(command: &str) -> Parameters {
    Parameters {
        command: command.to_owned(),
        container_id: "c1".to_owned(),
        netns: None,
        ifname: "eth0".to_owned(),
        args: Vec::new(),
        path: Vec::new(),
    }
}

fn code(error: &PluginError) -> u64 {
    error_object(error, b"{}")["code"].as_u64().unwrap()
}

#[test]
fn every_plugin_lists_its_versions() {
    for plugin_type in crate::PLUGIN_TYPES {
        let value = answer(plugin_type, &parameters("VERSION"), b"")
            .unwrap()
            .unwrap();
        assert_eq!(
            value["supportedVersions"].as_array().unwrap().len(),
            5,
            "{plugin_type}"
        );
    }
}

#[test]
fn refusals_have_the_specified_codes() {
    let config = br#"{"cniVersion":"1.0.0","name":"n","type":"bridge"}"#;
    let cases = [
        (
            "bridge",
            "ADD",
            &config[..],
            error_code::INVALID_ENVIRONMENT,
            "CNI_NETNS",
        ),
        (
            "bridge",
            "JUMP",
            config,
            error_code::INVALID_ENVIRONMENT,
            "JUMP",
        ),
        (
            "nothing",
            "DEL",
            config,
            error_code::NOT_AVAILABLE,
            "nothing",
        ),
        ("bridge", "DEL", b"{", error_code::DECODING_FAILURE, "EOF"),
        (
            "bridge",
            "DEL",
            br#"{"cniVersion":"0.2.0"}"#,
            error_code::INCOMPATIBLE_VERSION,
            "0.2.0",
        ),
        (
            "host-local",
            "DEL",
            config,
            error_code::DECODING_FAILURE,
            "ipam",
        ),
    ];
    for (plugin_type, command, input, expected, part) in cases {
        let error = answer(plugin_type, &parameters(command), input).unwrap_err();
        assert_eq!(
            code(&error),
            u64::from(expected),
            "{plugin_type} {command}: {error}"
        );
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// An address is handed out, seen by CHECK, refused a second time, and given back.
#[test]
fn host_local_by_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({
        "cniVersion": "1.0.0", "name": "n", "type": "bridge",
        "ipam": {"type": "host-local", "subnet": "10.5.0.0/24", "dataDir": dir.path(), "routes": [{"dst": "0.0.0.0/0"}]},
    })
    .to_string();
    let run = |command: &str| {
        let parameters = Parameters {
            netns: Some(PathBuf::from("/run/netns/x")),
            ..parameters(command)
        };
        answer("host-local", &parameters, config.as_bytes())
    };
    let value = run("ADD").unwrap().unwrap();
    assert_eq!(
        value["ips"],
        json!([{"address": "10.5.0.2/24", "gateway": "10.5.0.1"}])
    );
    assert_eq!(value["routes"], json!([{"dst": "0.0.0.0/0"}]));
    run("CHECK").unwrap();
    let error = run("ADD").unwrap_err().to_string();
    assert!(error.contains("already"), "{error}");
    assert_eq!(run("DEL").unwrap(), None);
    assert_eq!(run("DEL").unwrap(), None);
    assert!(run("CHECK").is_err());
    let again = run("ADD").unwrap().unwrap();
    assert_eq!(
        again["ips"][0]["address"], "10.5.0.3/24",
        "not the one just given back"
    );
}
