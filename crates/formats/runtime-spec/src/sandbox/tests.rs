//! Specs of the recorded node's pods, made again from equivalent requests.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crioxide_cri_api::v1;
use serde_json::Value;

use super::*;
use crate::cgroups_path::CgroupManager;
use crate::mounts::fixed::PodFiles;
use crate::mounts::volumes::RecursiveReadOnly;
use crate::namespaces::{NamespaceSource, NamespaceSources};
use crate::request::{Confinement, HostFacts, SpecDefaults};
use crate::resources::{CgroupFacts, CgroupVersion, Controller};

fn host() -> HostFacts {
    HostFacts {
        cgroup: CgroupFacts {
            version: CgroupVersion::V1,
            swap: Controller::Available,
            hugetlb: Controller::Available,
        },
        bounding: HashSet::new(),
        recursive_read_only: RecursiveReadOnly::Supported,
    }
}

fn built(
    golden: &Value,
    sysctls: &BTreeMap<String, String>,
    config: &v1::PodSandboxConfig,
) -> Spec {
    let source = |destination: &str| {
        let mount = golden["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .find(|mount| mount["destination"] == destination);
        mount.map(|mount| mount["source"].as_str().unwrap().into())
    };
    let namespace = |typ: &str| {
        let found = golden["linux"]["namespaces"]
            .as_array()
            .unwrap()
            .iter()
            .find(|namespace| namespace["type"] == typ);
        found
            .and_then(|namespace| namespace["path"].as_str())
            .map_or(NamespaceSource::Private, |path| {
                NamespaceSource::Path(path.into())
            })
    };
    let namespaces = NamespaceSources {
        network: namespace("network"),
        ipc: namespace("ipc"),
        uts: namespace("uts"),
        ..NamespaceSources::default()
    };
    let files = PodFiles {
        shm: source("/dev/shm"),
        resolv_conf: source("/etc/resolv.conf"),
        hostname: source("/etc/hostname"),
        ..PodFiles::default()
    };
    let cgroups_path = golden["linux"]["cgroupsPath"].as_str().unwrap();
    let (cgroup_parent, name) = cgroups_path.rsplit_once('/').unwrap();
    let defaults = SpecDefaults {
        cgroup_manager: CgroupManager::Cgroupfs,
        ..SpecDefaults::default()
    };
    sandbox_spec(&SandboxSpecRequest {
        id: name.strip_prefix("crio-").unwrap(),
        config,
        command: &["/pause".to_owned()],
        rootfs: Path::new(golden["root"]["path"].as_str().unwrap()),
        hostname: golden["hostname"].as_str().unwrap(),
        cgroup_parent,
        namespaces: &namespaces,
        files: &files,
        sysctls,
        cpuset: "",
        confinement: &Confinement::default(),
        annotations: serde_json::from_value(golden["annotations"].clone()).unwrap(),
        host: &host(),
        defaults: &defaults,
    })
    .unwrap()
}

fn normal(mut spec: Value) -> Value {
    for set in ["bounding", "effective", "permitted"] {
        spec["process"]["capabilities"][set]
            .as_array_mut()
            .unwrap()
            .sort_by_key(|name| name.to_string());
    }
    spec
}

#[test]
fn recorded_pods_are_made_again() {
    for text in [
        include_str!("../../tests/golden/sandbox-web.json"),
        include_str!("../../tests/golden/sandbox-hostnet.json"),
        include_str!("../../tests/golden/sandbox-pidpod.json"),
    ] {
        let golden: Value = serde_json::from_str(text).unwrap();
        let spec = built(&golden, &BTreeMap::new(), &v1::PodSandboxConfig::default());
        assert_eq!(normal(serde_json::to_value(&spec).unwrap()), normal(golden));
    }
}

#[test]
fn sysctls_and_user_are_taken_over() {
    let golden: Value =
        serde_json::from_str(include_str!("../../tests/golden/sandbox-pidpod.json")).unwrap();
    let security_context = Some(v1::LinuxSandboxSecurityContext {
        run_as_user: Some(v1::Int64Value { value: 65535 }),
        ..Default::default()
    });
    let config = v1::PodSandboxConfig {
        linux: Some(v1::LinuxPodSandboxConfig {
            security_context,
            ..Default::default()
        }),
        ..Default::default()
    };
    let sysctls = BTreeMap::from([("kernel.sem".to_owned(), "1".to_owned())]);
    let spec = built(&golden, &sysctls, &config);
    assert_eq!(
        spec.linux().as_ref().unwrap().sysctl().as_ref().unwrap()["kernel.sem"],
        "1"
    );
    assert_eq!(spec.process().as_ref().unwrap().user().uid(), 65535);
}

#[test]
fn recorded_specs_can_be_read_back() {
    for text in [
        include_str!("../../tests/golden/sandbox-pidpod.json"),
        include_str!("../../tests/golden/container-running.json"),
        include_str!("../../tests/golden/container-tty.json"),
        include_str!("../../tests/golden/container-inpod.json"),
    ] {
        let golden: Value = serde_json::from_str(text).unwrap();
        let spec: Spec = serde_json::from_str(text).unwrap();
        assert_eq!(normal(serde_json::to_value(&spec).unwrap()), normal(golden));
    }
}
