//! Specs of the recorded node's containers, made again from equivalent requests.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use crioxide_cri_api::v1;
use oci_spec::runtime::{Capability, LinuxNamespaceType};
use serde_json::Value;

use super::*;
use crate::cgroups_path::CgroupManager;
use crate::image_facts::ImageFacts;
use crate::mounts::fixed::PodFiles;
use crate::mounts::volumes::{RecursiveReadOnly, VolumeSource};
use crate::namespaces::NamespaceSources;
use crate::request::{Confinement, Devices, HostFacts, SpecDefaults};
use crate::resources::{CgroupFacts, Controller};
use crate::user::ResolvedUser;

const ALL: [Capability; 4] = [
    Capability::Chown,
    Capability::Kill,
    Capability::SysAdmin,
    Capability::NetAdmin,
];

/// Everything a request borrows from, taken from a golden spec.
struct Case {
    golden: Value,
    id: String,
    config: v1::ContainerConfig,
    sandbox: v1::PodSandboxConfig,
    image: ImageFacts,
    user: ResolvedUser,
    namespaces: NamespaceSources,
    files: PodFiles,
    volumes: BTreeMap<String, VolumeSource>,
    devices: Devices,
    confinement: Confinement,
    host: HostFacts,
    defaults: SpecDefaults,
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Case {
    fn of(golden: &str, command: &[&str]) -> Self {
        let golden: Value = serde_json::from_str(golden).unwrap();
        let annotation = |key: &str| {
            golden["annotations"][format!("io.kubernetes.cri-o.{key}")]
                .as_str()
                .unwrap()
                .to_owned()
        };
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
            match found.map(|namespace| namespace["path"].as_str()) {
                None => NamespaceSource::Host,
                Some(None) => NamespaceSource::Private,
                Some(Some(path)) => NamespaceSource::Path(path.into()),
            }
        };
        let security = v1::LinuxContainerSecurityContext {
            masked_paths: texts(&["/proc/acpi", "/proc/kcore"]),
            readonly_paths: texts(&["/proc/sys"]),
            ..v1::LinuxContainerSecurityContext::default()
        };
        let resources = v1::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 20_000,
            cpu_shares: 102,
            memory_limit_in_bytes: 67_108_864,
            oom_score_adj: 500,
            ..Default::default()
        };
        Self {
            id: annotation("ContainerID"),
            config: v1::ContainerConfig {
                command: texts(command),
                envs: vec![v1::KeyValue {
                    key: "COLOUR".into(),
                    value: "blue".to_owned().into(),
                }],
                linux: Some(v1::LinuxContainerConfig {
                    resources: Some(resources),
                    security_context: Some(security),
                }),
                ..v1::ContainerConfig::default()
            },
            sandbox: v1::PodSandboxConfig::default(),
            image: ImageFacts {
                env: texts(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
                cmd: texts(&["sh"]),
                ..ImageFacts::default()
            },
            user: ResolvedUser {
                additional_gids: vec![0],
                ..ResolvedUser::default()
            },
            namespaces: NamespaceSources {
                pid: namespace("pid"),
                network: namespace("network"),
                ipc: namespace("ipc"),
                uts: namespace("uts"),
                ..NamespaceSources::default()
            },
            files: PodFiles {
                shm: source("/dev/shm"),
                resolv_conf: source("/etc/resolv.conf"),
                hostname: source("/etc/hostname"),
                containerenv: source("/run/.containerenv"),
                hosts: source("/etc/hosts"),
            },
            volumes: BTreeMap::new(),
            devices: Devices::default(),
            confinement: Confinement::default(),
            host: HostFacts {
                cgroup: CgroupFacts {
                    version: CgroupVersion::V1,
                    swap: Controller::Available,
                    hugetlb: Controller::Available,
                },
                bounding: HashSet::from(ALL),
                recursive_read_only: RecursiveReadOnly::Supported,
            },
            defaults: SpecDefaults {
                cgroup_manager: CgroupManager::Cgroupfs,
                ..SpecDefaults::default()
            },
            golden,
        }
    }

    fn running() -> Self {
        Self::of(
            include_str!("../../tests/golden/container-running.json"),
            &[
                "sh",
                "-c",
                "echo started; trap 'exit 0' TERM; while :; do sleep 1; done",
            ],
        )
    }

    fn build(&self) -> Result<SpecOutput, SpecError> {
        let parent = self.golden["linux"]["cgroupsPath"]
            .as_str()
            .unwrap()
            .rsplit_once('/')
            .unwrap()
            .0
            .to_owned();
        let hostname = self.golden["hostname"].as_str().unwrap();
        container_spec(&ContainerSpecRequest {
            id: &self.id,
            config: &self.config,
            sandbox: &self.sandbox,
            image: &self.image,
            user: &self.user,
            rootfs: Path::new(self.golden["root"]["path"].as_str().unwrap()),
            hostname,
            cgroup_parent: &parent,
            namespaces: &self.namespaces,
            files: &self.files,
            volumes: &self.volumes,
            extra_mounts: &[],
            devices: &self.devices,
            confinement: &self.confinement,
            umask: None,
            console_size: None,
            host: &self.host,
            defaults: &self.defaults,
        })
    }

    fn security(&mut self) -> &mut v1::LinuxContainerSecurityContext {
        self.config
            .linux
            .as_mut()
            .unwrap()
            .security_context
            .as_mut()
            .unwrap()
    }

    fn privileged(mut self) -> Self {
        self.security().privileged = true;
        let security_context = Some(v1::LinuxSandboxSecurityContext {
            privileged: true,
            ..Default::default()
        });
        self.sandbox.linux = Some(v1::LinuxPodSandboxConfig {
            security_context,
            ..Default::default()
        });
        self
    }

    fn assert_equals_golden(&self) {
        let mut output = self.build().unwrap();
        let annotations: BTreeMap<String, String> =
            serde_json::from_value(self.golden["annotations"].clone()).unwrap();
        output.annotate(annotations);
        let text = crioxide_node_records::go_json::to_sorted_string(&output.spec).unwrap();
        assert_eq!(
            normal(serde_json::from_str(&text).unwrap()),
            normal(self.golden.clone())
        );
    }
}

/// Capability sets have no order, and variables given twice count once. CRI-O writes that there is no limit of processes.
fn normal(mut spec: Value) -> Value {
    for set in ["bounding", "effective", "permitted"] {
        let names = spec["process"]["capabilities"][set].as_array_mut().unwrap();
        names.sort_by_key(|name| name.to_string());
    }
    let resources = spec["linux"]["resources"].as_object_mut().unwrap();
    if resources
        .get("pids")
        .is_some_and(|pids| pids["limit"] == -1)
    {
        resources.remove("pids");
    }
    let mut seen = HashSet::new();
    spec["process"]["env"]
        .as_array_mut()
        .unwrap()
        .retain(|text| seen.insert(text.to_string()));
    spec
}

#[test]
fn running_container_equals_the_recorded_one() {
    let mut case = Case::running();
    case.config.mounts = vec![v1::Mount {
        container_path: "/data".into(),
        host_path: "/srv/data".into(),
        ..Default::default()
    }];
    case.assert_equals_golden();
    assert_eq!(case.build().unwrap().volumes[0].host_path, "/srv/data");
}

#[test]
fn container_in_the_nodes_network_equals_the_recorded_one() {
    let mut case = Case::of(
        include_str!("../../tests/golden/container-tty.json"),
        &["sh", "-c", "cat"],
    );
    case.config.tty = true;
    case.assert_equals_golden();
}

#[test]
fn container_in_the_pods_pid_namespace_equals_the_recorded_one() {
    Case::of(
        include_str!("../../tests/golden/container-inpod.json"),
        &["sh", "-c", "sleep 100000"],
    )
    .assert_equals_golden();
}

#[test]
fn privileged_needs_a_privileged_pod() {
    let mut case = Case::running();
    case.security().privileged = true;
    assert_eq!(
        case.build().unwrap_err().to_string(),
        "no privileged container allowed in sandbox"
    );
}

#[test]
fn privileged_container_sees_the_node() {
    let mut case = Case::running().privileged();
    let mut device = oci_spec::runtime::LinuxDevice::default();
    device.set_path("/dev/sda".into());
    case.devices.host = Some(vec![device]);
    case.host.cgroup.version = CgroupVersion::V2;
    let spec = case.build().unwrap().spec;
    let linux = spec.linux().clone().unwrap();
    assert_eq!(
        (linux.masked_paths(), linux.readonly_paths()),
        (&None, &None)
    );
    assert_eq!(linux.devices().as_ref().unwrap().len(), 1);
    assert!(
        linux
            .resources()
            .as_ref()
            .unwrap()
            .devices()
            .as_ref()
            .unwrap()[0]
            .allow()
    );
    assert!(
        !linux
            .namespaces()
            .as_ref()
            .unwrap()
            .iter()
            .any(|namespace| namespace.typ() == LinuxNamespaceType::Cgroup)
    );
    assert_eq!(
        spec.process()
            .as_ref()
            .unwrap()
            .capabilities()
            .as_ref()
            .unwrap()
            .bounding(),
        &Some(HashSet::from(ALL))
    );
    for mount in spec
        .mounts()
        .iter()
        .flatten()
        .filter(|mount| mount.destination().starts_with("/sys"))
    {
        assert_eq!(mount.options().as_ref().unwrap().last().unwrap(), "rw");
    }
}

#[test]
fn privileged_without_host_devices_denies_them() {
    let spec = Case::running().privileged().build().unwrap().spec;
    let rules = spec
        .linux()
        .as_ref()
        .unwrap()
        .resources()
        .as_ref()
        .unwrap()
        .devices()
        .clone()
        .unwrap();
    assert!(!rules[0].allow());
}

#[test]
fn version_two_gives_a_cgroup_namespace() {
    let mut case = Case::running();
    case.host.cgroup.version = CgroupVersion::V2;
    let spec = case.build().unwrap().spec;
    let last = spec
        .linux()
        .as_ref()
        .unwrap()
        .namespaces()
        .as_ref()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(last.typ(), LinuxNamespaceType::Cgroup);
}

#[test]
fn read_only_root_makes_the_files_read_only() {
    let mut case = Case::running();
    case.security().readonly_rootfs = true;
    let spec = case.build().unwrap().spec;
    assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
    let options = |destination: &str| {
        let mount = spec
            .mounts()
            .iter()
            .flatten()
            .find(|mount| mount.destination() == Path::new(destination))
            .cloned();
        mount.map(|mount| mount.options().clone().unwrap().join(","))
    };
    assert_eq!(options("/etc/hostname").as_deref(), Some("ro,bind"));
    assert_eq!(options("/dev/shm").as_deref(), Some("rw,bind"));
    assert_eq!(options("/tmp"), None);
    case.defaults.rootfs = Writability::ReadOnly;
    let with_scratch = case.build().unwrap().spec;
    assert!(
        with_scratch
            .mounts()
            .iter()
            .flatten()
            .any(|mount| mount.destination() == Path::new("/tmp"))
    );
}

#[test]
fn mounts_of_the_pod_replace_the_fixed_ones() {
    let mut case = Case::running();
    case.config.mounts = vec![v1::Mount {
        container_path: "/etc/hostname".into(),
        host_path: "/mine".into(),
        ..Default::default()
    }];
    let spec = case.build().unwrap().spec;
    let sources: Vec<_> = spec
        .mounts()
        .iter()
        .flatten()
        .filter(|mount| mount.destination() == Path::new("/etc/hostname"))
        .collect();
    assert_eq!(sources.len(), 1);
    assert_eq!(sources[0].source().as_deref(), Some(Path::new("/mine")));
}

#[test]
fn systemd_gets_its_file_systems() {
    let mut case = Case::running();
    case.config.command = texts(&["/sbin/init"]);
    let output = case.build().unwrap();
    let linux = output.spec.linux().clone().unwrap();
    assert!(
        linux
            .masked_paths()
            .as_ref()
            .unwrap()
            .iter()
            .any(|path| path == systemd::RELEASE_AGENT)
    );
    assert!(
        output
            .spec
            .process()
            .as_ref()
            .unwrap()
            .env()
            .as_ref()
            .unwrap()
            .contains(&"container=crio".to_owned())
    );
    assert!(
        output
            .spec
            .mounts()
            .iter()
            .flatten()
            .any(|mount| mount.destination() == Path::new("/run/lock"))
    );
    case.host.cgroup.version = CgroupVersion::V2;
    let spec = case.build().unwrap().spec;
    let cgroup: Vec<_> = spec
        .mounts()
        .iter()
        .flatten()
        .filter(|mount| mount.destination() == Path::new("/sys/fs/cgroup"))
        .collect();
    assert_eq!(
        (
            cgroup.len(),
            cgroup[0].options().as_ref().unwrap().join(",").as_str()
        ),
        (1, "private,rw")
    );
}

#[test]
fn granted_devices_get_a_node_and_a_rule() {
    let mut case = Case::running();
    let mut device = oci_spec::runtime::LinuxDevice::default();
    device.set_path("/dev/fuse".into());
    device.set_typ(oci_spec::runtime::LinuxDeviceType::C);
    device.set_major(10);
    device.set_minor(229);
    case.devices.granted = vec![crate::devices::DeviceGrant {
        device,
        access: "rw".into(),
    }];
    let linux = case.build().unwrap().spec.linux().clone().unwrap();
    let rules = linux
        .resources()
        .as_ref()
        .unwrap()
        .devices()
        .clone()
        .unwrap();
    assert_eq!(
        (
            rules[0].allow(),
            rules[1].allow(),
            rules[1].major(),
            rules[1].access().as_deref()
        ),
        (false, true, Some(10), Some("rw"))
    );
    assert_eq!(linux.devices().as_ref().unwrap().len(), 1);
}

#[test]
fn mistakes_of_the_request_are_errors() {
    let mut case = Case::running();
    case.config
        .linux
        .as_mut()
        .unwrap()
        .resources
        .as_mut()
        .unwrap()
        .oom_score_adj = 1001;
    assert_eq!(case.build(), Err(SpecError::OomScore { value: 1001 }));
    let mut empty = Case::running();
    empty.config.command.clear();
    empty.image.cmd.clear();
    assert_eq!(
        empty.build().unwrap_err().to_string(),
        "no command specified"
    );
}
