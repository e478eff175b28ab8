//! Our CRI definition against the one that the `k8s-cri` crate carries (it is older, so ours may have more).
//!
//! The descriptors are compared field by field, and a few messages byte by byte through both generated codes.

#![expect(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use crioxide_cri_api::v1 as ours;
use k8s_cri::v1 as theirs;
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Directory of the `k8s-cri` package's sources, as cargo unpacked them.
fn their_package() -> PathBuf {
    let out = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--manifest-path",
        ])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value =
        serde_json::from_slice(&out.stdout).expect("cargo metadata prints JSON");
    let package = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["name"] == "k8s-cri")
        .unwrap();
    PathBuf::from(package["manifest_path"].as_str().unwrap())
        .parent()
        .unwrap()
        .to_owned()
}

fn cri_file(set: &FileDescriptorSet) -> &FileDescriptorProto {
    set.file
        .iter()
        .find(|f| f.package() == "runtime.v1")
        .unwrap()
}

/// Field number -> (name, type, label, type name), for every message by name.
type Fields = BTreeMap<String, BTreeMap<i32, (String, i32, i32, String)>>;

fn fields(file: &FileDescriptorProto) -> Fields {
    fn add(prefix: &str, message: &DescriptorProto, all: &mut Fields) {
        let name = format!("{prefix}{}", message.name());
        let fields = message.field.iter().map(|f| {
            (
                f.number(),
                (
                    f.name().to_owned(),
                    f.r#type() as i32,
                    f.label() as i32,
                    f.type_name().to_owned(),
                ),
            )
        });
        all.insert(name.clone(), fields.collect());
        for nested in &message.nested_type {
            add(&format!("{name}."), nested, all);
        }
    }
    let mut all = BTreeMap::new();
    for message in &file.message_type {
        add("", message, &mut all);
    }
    all
}

fn values(list: &EnumDescriptorProto) -> BTreeMap<i32, String> {
    list.value
        .iter()
        .map(|v| (v.number(), v.name().to_owned()))
        .collect()
}

#[test]
fn every_field_they_know_is_ours_too() {
    let dir = their_package().join("proto");
    let their_set = protox::compile([dir.join("v1.proto")], [dir.clone()]).unwrap();
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../crates/formats/cri-api/proto");
    let our_set = protox::compile([dir.join("cri-v1.proto")], [dir.clone()]).unwrap();
    let (our_file, their_file) = (cri_file(&our_set), cri_file(&their_set));

    let (mine, other) = (fields(our_file), fields(their_file));
    assert!(
        other.len() > 100,
        "only {} messages found in the other definition",
        other.len()
    );
    for (message, their_fields) in &other {
        let my_fields = mine
            .get(message)
            .unwrap_or_else(|| panic!("message {message} is missing"));
        for (number, field) in their_fields {
            if (message.as_str(), *number) == ("KeyValue", 2) {
                // A string when the other definition was written, bytes since: the same on the wire.
                assert_eq!(
                    my_fields.get(number).map(|field| field.0.as_str()),
                    Some("value")
                );
                continue;
            }
            assert_eq!(
                my_fields.get(number),
                Some(field),
                "{message} field {number}"
            );
        }
    }
    for list in &their_file.enum_type {
        let my_list = our_file.enum_type.iter().find(|e| e.name() == list.name());
        let my_values = my_list
            .map(values)
            .unwrap_or_else(|| panic!("enum {} is missing", list.name()));
        for (number, name) in values(list) {
            assert_eq!(
                my_values.get(&number),
                Some(&name),
                "{} {number}",
                list.name()
            );
        }
    }
    for service in &their_file.service {
        let my_service = our_file
            .service
            .iter()
            .find(|s| s.name() == service.name())
            .unwrap();
        for method in &service.method {
            let my_method = my_service.method.iter().find(|m| m.name() == method.name());
            assert_eq!(
                my_method,
                Some(method),
                "{}.{}",
                service.name(),
                method.name()
            );
        }
    }
}

#[test]
fn we_have_the_whole_interface() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../crates/formats/cri-api/proto");
    let set = protox::compile([dir.join("cri-v1.proto")], [dir.clone()]).unwrap();
    let file = cri_file(&set);
    let methods: Vec<usize> = file.service.iter().map(|s| s.method.len()).collect();
    assert_eq!(methods, [35, 6]);
    assert_eq!(file.message_type.len(), 170);
    assert_eq!(
        file.message_type
            .iter()
            .map(|m| m.field.len())
            .sum::<usize>(),
        463
    );
}

#[test]
fn a_pod_request_has_the_same_bytes() {
    let request = ours::RunPodSandboxRequest {
        config: Some(ours::PodSandboxConfig {
            metadata: Some(ours::PodSandboxMetadata {
                name: "web".into(),
                uid: "u-1".into(),
                namespace: "default".into(),
                attempt: 3,
            }),
            hostname: "web".into(),
            log_directory: "/var/log/pods/web".into(),
            dns_config: Some(ours::DnsConfig {
                servers: vec!["10.0.0.10".into()],
                ..Default::default()
            }),
            port_mappings: vec![ours::PortMapping {
                protocol: ours::Protocol::Udp as i32,
                container_port: 53,
                host_port: 1053,
                host_ip: "127.0.0.1".into(),
            }],
            labels: [("app".to_owned(), "web".to_owned())].into(),
            linux: Some(ours::LinuxPodSandboxConfig {
                cgroup_parent: "/kubepods".into(),
                security_context: Some(ours::LinuxSandboxSecurityContext {
                    run_as_user: Some(ours::Int64Value { value: -7 }),
                    supplemental_groups: vec![1, 2, 3],
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        runtime_handler: "runc".into(),
    };
    let bytes = request.encode_to_vec();
    let back = theirs::RunPodSandboxRequest::decode(bytes.as_slice()).unwrap();
    assert_eq!(back.runtime_handler, "runc");
    assert_eq!(
        back.config.as_ref().unwrap().port_mappings[0].host_port,
        1053
    );
    assert_eq!(back.encode_to_vec(), bytes);
}
