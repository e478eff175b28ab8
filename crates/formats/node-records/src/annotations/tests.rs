//! Golden annotations of a recorded node, read and written again.

use std::collections::BTreeMap;

use super::values::{IdMapping, LinuxResources, UserNamespace};
use super::*;

const JSON_KEYS: [&str; 9] = [
    keys::METADATA,
    keys::LABELS,
    keys::ANNOTATIONS,
    keys::NAMESPACE_OPTIONS,
    keys::PORT_MAPPINGS,
    keys::VOLUMES,
    keys::POD_LINUX_OVERHEAD,
    keys::POD_LINUX_RESOURCES,
    keys::CNI_RESULT,
];

fn golden(text: &str) -> BTreeMap<String, String> {
    serde_json::from_str(text).unwrap()
}

/// JSON values as trees, because Go writes the keys of these maps in random order.
fn comparable(map: BTreeMap<String, String>) -> BTreeMap<String, serde_json::Value> {
    map.into_iter()
        .map(|(key, value)| {
            let tree = if JSON_KEYS.contains(&key.as_str()) {
                serde_json::from_str(&value).unwrap()
            } else {
                value.into()
            };
            (key, tree)
        })
        .collect()
}

#[test]
fn recorded_sandboxes_round_trip() {
    for text in [
        include_str!("../../tests/golden/sandbox-web.json"),
        include_str!("../../tests/golden/sandbox-hostnet.json"),
        include_str!("../../tests/golden/sandbox-pidpod.json"),
    ] {
        let recorded = golden(text);
        let sandbox = SandboxAnnotations::from_map(&recorded).unwrap();
        assert_eq!(comparable(sandbox.to_map()), comparable(recorded));
    }
}

#[test]
fn recorded_containers_round_trip() {
    for text in [
        include_str!("../../tests/golden/container-running.json"),
        include_str!("../../tests/golden/container-tty.json"),
        include_str!("../../tests/golden/container-inpod.json"),
    ] {
        let recorded = golden(text);
        let container = ContainerAnnotations::from_map(&recorded).unwrap();
        assert_eq!(comparable(container.to_map()), comparable(recorded));
    }
}

#[test]
fn recorded_facts_are_understood() {
    let pod = SandboxAnnotations::from_map(&golden(include_str!(
        "../../tests/golden/sandbox-pidpod.json"
    )))
    .unwrap();
    assert_eq!(
        (
            pod.kube_name.as_str(),
            pod.spoofed,
            pod.privileged,
            pod.namespace_options.pid
        ),
        ("pidpod", false, false, 0)
    );
    assert_eq!(
        (
            pod.port_mappings[0].host_port,
            pod.port_mappings[0].container_port,
            pod.port_mappings[0].protocol.as_str()
        ),
        (18081, 80, "TCP")
    );
    let host = SandboxAnnotations::from_map(&golden(include_str!(
        "../../tests/golden/sandbox-hostnet.json"
    )))
    .unwrap();
    assert!(host.spoofed && host.privileged && host.host_network && host.cni_result.is_none());
    assert_eq!(
        (host.namespace_options.network, host.namespace_options.pid),
        (2, 1)
    );
    let container = ContainerAnnotations::from_map(&golden(include_str!(
        "../../tests/golden/container-running.json"
    )))
    .unwrap();
    assert_eq!(
        (
            container.volumes[0].container_path.as_str(),
            container.ips.as_slice()
        ),
        ("/data", ["10.87.0.2".to_owned()].as_slice())
    );
    assert_eq!(
        container.inherited.get("note").map(String::as_str),
        Some("kept")
    );
}

#[test]
fn resources_and_user_namespaces_have_go_names() {
    let mut sandbox =
        SandboxAnnotations::from_map(&golden(include_str!("../../tests/golden/sandbox-web.json")))
            .unwrap();
    sandbox.overhead = Some(LinuxResources {
        cpu_shares: 10,
        memory_limit_in_bytes: 4096,
        ..LinuxResources::default()
    });
    sandbox.namespace_options.userns_options = Some(UserNamespace {
        mode: 0,
        uids: vec![IdMapping {
            host_id: 65536,
            container_id: 0,
            length: 65536,
        }],
        gids: vec![],
    });
    sandbox.annotations.insert("html".into(), "<b>&".into());
    let map = sandbox.to_map();
    assert_eq!(
        map[keys::POD_LINUX_OVERHEAD],
        r#"{"cpu_shares":10,"memory_limit_in_bytes":4096}"#
    );
    assert_eq!(
        map[keys::NAMESPACE_OPTIONS],
        r#"{"pid":1,"userns_options":{"uids":[{"host_id":65536,"length":65536}]}}"#
    );
    assert!(map[keys::ANNOTATIONS].contains(r#""html":"\u003cb\u003e\u0026""#));
    assert_eq!(SandboxAnnotations::from_map(&map).unwrap(), sandbox);
}

#[test]
fn earlier_spellings_are_read() {
    let mut map = golden(include_str!("../../tests/golden/sandbox-web.json"));
    map.remove(keys::SPOOFED);
    map.remove(keys::POD_LINUX_RESOURCES);
    map.insert(keys::SPOOFED_V1.into(), "true".into());
    map.insert(
        keys::POD_LINUX_RESOURCES_V1.into(),
        r#"{"cpu_shares":3}"#.into(),
    );
    map.insert(keys::PORT_MAPPINGS.into(), "null".into());
    let sandbox = SandboxAnnotations::from_map(&map).unwrap();
    assert!(sandbox.spoofed && sandbox.port_mappings.is_empty());
    assert_eq!(sandbox.resources.unwrap().cpu_shares, 3);
}

#[test]
fn incomplete_and_foreign_records_are_refused() {
    let complete = golden(include_str!("../../tests/golden/sandbox-web.json"));
    let refused = |key: &str, value: Option<&str>| {
        let mut map = complete.clone();
        match value {
            Some(value) => map.insert(key.into(), value.into()),
            None => map.remove(key),
        };
        SandboxAnnotations::from_map(&map).unwrap_err().to_string()
    };
    assert!(refused(keys::MANAGER, Some("libpod")).contains("`libpod`"));
    assert!(refused(keys::NAME, Some("")).contains(keys::NAME));
    assert!(refused(keys::NAMESPACE, None).contains(keys::NAMESPACE));
    assert!(refused(keys::METADATA, Some(r#"{"name":"a","namespace":"b"}"#)).contains("`uid`"));
    assert!(refused(keys::PORT_MAPPINGS, Some("{")).contains("invalid JSON"));
    assert!(refused(keys::CREATED, Some("noon")).contains("no time"));
}

#[test]
fn systemd_values_cannot_be_injected() {
    assert_eq!(
        container::systemd_properties(Some("30"))[keys::SYSTEMD_TIMEOUT_STOP],
        "uint64 30000000"
    );
    for text in ["30'; x", "-1", "", "99999999999", "+5"] {
        assert!(
            !container::systemd_properties(Some(text)).contains_key(keys::SYSTEMD_TIMEOUT_STOP),
            "{text}"
        );
    }
}

#[test]
fn pod_values_never_pass_for_ours() {
    let forged = BTreeMap::from([
        (keys::CONTAINER_ID.to_owned(), "forged".to_owned()),
        (keys::SPOOFED.to_owned(), "true".to_owned()),
        (keys::CNI_RESULT.to_owned(), "{}".to_owned()),
        (format!("{}0", keys::IP_PREFIX), "6.6.6.6".to_owned()),
    ]);
    let container = ContainerAnnotations {
        id: "real".into(),
        annotations: forged.clone(),
        inherited: forged.clone(),
        ..ContainerAnnotations::default()
    };
    let map = container.to_map();
    assert_eq!(map[keys::CONTAINER_ID], "real");
    let sandbox = SandboxAnnotations {
        id: "real".into(),
        annotations: forged.clone(),
        labels: forged,
        ..SandboxAnnotations::default()
    };
    for map in [map, sandbox.to_map()] {
        assert!(!map.contains_key(keys::SPOOFED) && !map.contains_key(keys::CNI_RESULT));
        assert!(!map.keys().any(|key| key.starts_with(keys::IP_PREFIX)));
    }
}
