//! Records as CRI-O writes them: its keys, its spelling of values, its places.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// When everything was made, and the same in nanoseconds.
pub(super) const CREATED: (&str, i64) =
    ("2026-01-02T03:04:05.000000006Z", 1_767_323_045_000_000_006);
pub(super) const STARTED: (&str, i64) = ("2026-01-02T03:04:07.5Z", 1_767_323_047_500_000_000);
pub(super) const FINISHED: (&str, i64) = ("2026-01-02T03:05:00.25Z", 1_767_323_100_250_000_000);
/// Go's time before all time.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Where a node keeps things, and the image of all its containers.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) base: PathBuf,
    pub(super) root: PathBuf,
    pub(super) run: PathBuf,
    pub(super) cgroup: String,
    pub(super) image: String,
    pub(super) image_id: String,
    pub(super) digest: String,
}

impl Frame {
    /// A pod's or container's directory that outlives a reboot.
    pub(super) fn kept(&self, id: &str) -> PathBuf {
        self.root
            .join("overlay-containers")
            .join(id)
            .join("userdata")
    }

    /// The one that does not; a container's bundle.
    pub(super) fn bundle(&self, id: &str) -> PathBuf {
        self.run
            .join("overlay-containers")
            .join(id)
            .join("userdata")
    }

    pub(super) fn merged(&self, layer: &str) -> PathBuf {
        self.root.join("overlay").join(layer).join("merged")
    }

    pub(super) fn pod_cgroup(&self, pod: &Pod) -> String {
        format!("{}/pod{}", self.cgroup, pod.uid)
    }

    pub(super) fn pin(&self, kind: &str, pod: &Pod) -> PathBuf {
        self.base.join("ns").join(kind).join(&pod.pins)
    }

    pub(super) fn log(&self, pod: &Pod, container: &Container) -> PathBuf {
        let folder = format!("default_{}_{}", pod.name, pod.uid);
        self.base
            .join("log")
            .join(folder)
            .join(container.name)
            .join("0.log")
    }
}

#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) id: String,
    pub(super) name: &'static str,
    pub(super) uid: String,
    /// Name of its namespaces' pins.
    pub(super) pins: String,
    pub(super) layer: String,
    /// The infra process, or none where CRI-O drops it.
    pub(super) infra: Option<i32>,
    pub(super) ip: String,
    /// What the network plugin answered.
    pub(super) network: Value,
}

impl Pod {
    pub(super) fn full_name(&self) -> String {
        format!("k8s_{}_default_{}_0", self.name, self.uid)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: &'static str,
    pub(super) layer: String,
    pub(super) script: &'static str,
    pub(super) stdin: bool,
    pub(super) tty: bool,
}

impl Container {
    pub(super) fn full_name(&self, pod: &Pod) -> String {
        format!("k8s_{}_{}_default_{}_0", self.name, pod.name, pod.uid)
    }
}

pub(super) fn pod_labels(pod: &Pod) -> Value {
    json!({
        "app": pod.name,
        "io.kubernetes.container.name": "POD",
        "io.kubernetes.pod.name": pod.name,
        "io.kubernetes.pod.namespace": "default",
        "io.kubernetes.pod.uid": pod.uid,
    })
}

pub(super) fn pod_annotations() -> Value {
    json!({"kubernetes.io/config.seen": "2026-01-02T00:00:00Z", "note": "recorded"})
}

fn pod_record(frame: &Frame, pod: &Pod, namespaces: &Value) -> Value {
    let run = frame.bundle(&pod.id);
    let mut network = pod.network.clone();
    network["cniVersion"] = "1.1.0".into();
    let mut all = json!({
        "io.container.manager": "cri-o",
        "io.kubernetes.cri-o.Annotations": pod_annotations().to_string(),
        "io.kubernetes.cri-o.CNIResult": network.to_string(),
        "io.kubernetes.cri-o.CgroupParent": frame.pod_cgroup(pod),
        "io.kubernetes.cri-o.ContainerID": pod.id,
        "io.kubernetes.cri-o.ContainerName": format!("k8s_POD_{}_default_{}_0", pod.name, pod.uid),
        "io.kubernetes.cri-o.ContainerType": "sandbox",
        "io.kubernetes.cri-o.Created": CREATED.0,
        "io.kubernetes.cri-o.HostName": pod.name,
        "io.kubernetes.cri-o.HostNetwork": "false",
        "io.kubernetes.cri-o.HostnamePath": run.join("hostname"),
        "io.kubernetes.cri-o.Image": frame.image,
        "io.kubernetes.cri-o.ImageName": frame.image,
        "io.kubernetes.cri-o.KubeName": pod.name,
        "io.kubernetes.cri-o.Labels": pod_labels(pod).to_string(),
        "io.kubernetes.cri-o.LogPath": frame.base.join("log").join(&pod.id).with_extension("log"),
        "io.kubernetes.cri-o.Metadata": json!({"name": pod.name, "uid": pod.uid, "namespace": "default"}).to_string(),
        "io.kubernetes.cri-o.MountPoint": frame.merged(&pod.layer),
        "io.kubernetes.cri-o.Name": pod.full_name(),
        "io.kubernetes.cri-o.Namespace": "default",
        "io.kubernetes.cri-o.NamespaceOptions": namespaces.to_string(),
        "io.kubernetes.cri-o.PortMappings": "[]",
        "io.kubernetes.cri-o.PrivilegedRuntime": "false",
        "io.kubernetes.cri-o.ResolvPath": run.join("resolv.conf"),
        "io.kubernetes.cri-o.RuntimeHandler": "",
        "io.kubernetes.cri-o.SandboxID": pod.id,
        "io.kubernetes.cri-o.SandboxName": pod.full_name(),
        "io.kubernetes.cri-o.SeccompProfilePath": "RuntimeDefault",
        "io.kubernetes.cri-o.ShmPath": run.join("shm"),
        "pod-linux-overhead.crio.io": "null",
        "pod-linux-resources.crio.io": "null",
    });
    extend(&mut all, pod_labels(pod));
    extend(&mut all, pod_annotations());
    all
}

/// The config.json of a pod, with an infra process or a record alone.
pub(super) fn pod_config(frame: &Frame, pod: &Pod, infra: bool) -> Value {
    // CRI writes the namespace modes as numbers, and the usual one (POD) not at all.
    let namespaces = if infra { json!({}) } else { json!({"pid": 1}) };
    let mut annotations = pod_record(frame, pod, &namespaces);
    if !infra {
        annotations["spoofed.crio.io"] = "true".into();
    }
    json!({
        "ociVersion": "1.3.0",
        "process": process(&["/bin/sleep", "100000"], false, 0, &[]),
        "root": {"path": frame.merged(&pod.layer), "readonly": true},
        "hostname": pod.name,
        "mounts": mounts(&frame.bundle(&pod.id), "ro"),
        "annotations": annotations,
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}], "cpu": {"shares": 2}},
            "cgroupsPath": format!("{}/crio-{}", frame.pod_cgroup(pod), pod.id),
            "namespaces": linux_namespaces(frame, pod, None),
        },
    })
}

pub(super) fn container_labels(container: &Container) -> Value {
    json!({"io.kubernetes.container.name": container.name})
}

pub(super) fn container_annotations() -> Value {
    json!({"io.kubernetes.container.restartCount": "0"})
}

pub(super) fn container_record(frame: &Frame, pod: &Pod, container: &Container) -> Value {
    let repository = frame.image.rsplit_once(':').map_or("", |(name, _)| name);
    let mut all = json!({
        "io.container.manager": "cri-o",
        "io.kubernetes.cri-o.Annotations": container_annotations().to_string(),
        "io.kubernetes.cri-o.ContainerID": container.id,
        "io.kubernetes.cri-o.ContainerType": "container",
        "io.kubernetes.cri-o.Created": CREATED.0,
        "io.kubernetes.cri-o.IP.0": pod.ip,
        "io.kubernetes.cri-o.Image": frame.image,
        "io.kubernetes.cri-o.ImageName": frame.image,
        "io.kubernetes.cri-o.ImageRef": frame.image_id,
        "io.kubernetes.cri-o.ImageRepoDigests": format!("{repository}@{}", frame.digest),
        "io.kubernetes.cri-o.Labels": container_labels(container).to_string(),
        "io.kubernetes.cri-o.LogPath": frame.log(pod, container),
        "io.kubernetes.cri-o.Metadata": json!({"name": container.name}).to_string(),
        "io.kubernetes.cri-o.MountPoint": frame.merged(&container.layer),
        "io.kubernetes.cri-o.Name": container.full_name(pod),
        "io.kubernetes.cri-o.ResolvPath": frame.bundle(&pod.id).join("resolv.conf"),
        "io.kubernetes.cri-o.SandboxID": pod.id,
        "io.kubernetes.cri-o.SandboxName": pod.full_name(),
        "io.kubernetes.cri-o.SeccompProfilePath": "RuntimeDefault",
        "io.kubernetes.cri-o.Stdin": container.stdin.to_string(),
        "io.kubernetes.cri-o.StdinOnce": "false",
        "io.kubernetes.cri-o.TTY": container.tty.to_string(),
        "io.kubernetes.cri-o.Volumes": json!([{
            "container_path": "/data", "host_path": frame.base.join("data"), "readonly": false,
            "recursive_read_only": false, "propagation": 0, "selinux_relabel": false,
        }]).to_string(),
        "platform-runtime-path.crio.io": "",
    });
    extend(&mut all, container_labels(container));
    extend(&mut all, container_annotations());
    extend(&mut all, pod_annotations());
    all
}

pub(super) fn container_config(frame: &Frame, pod: &Pod, container: &Container) -> Value {
    let mut mounts = mounts(&frame.bundle(&pod.id), "rw");
    if let Some(list) = mounts.as_array_mut() {
        list.push(
            json!({"destination": "/data", "type": "bind", "source": frame.base.join("data"),
            "options": ["rbind", "rprivate", "rw", "bind"]}),
        );
    }
    json!({
        "ociVersion": "1.3.0",
        "process": process(&["sh", "-c", container.script], container.tty, 500, &["COLOUR=blue"]),
        "root": {"path": frame.merged(&container.layer)},
        "hostname": pod.name,
        "mounts": mounts,
        "annotations": container_record(frame, pod, container),
        "linux": {
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": 67_108_864, "swap": 67_108_864},
                "cpu": {"shares": 102, "quota": 100_000, "period": 100_000},
                "pids": {"limit": -1},
            },
            "cgroupsPath": format!("{}/crio-{}", frame.pod_cgroup(pod), container.id),
            "namespaces": linux_namespaces(frame, pod, pod.infra),
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys"],
        },
    })
}

/// How far a process has come, for its state.json.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    Created,
    Running,
    Ended { code: i32, oom: bool },
}

/// A process and when it was started, in the kernel's ticks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) ticks: u64,
}

/// The state.json of what has a process.
pub(super) fn state(
    bundle: &Path,
    annotations: &Value,
    stage: Stage,
    init: Process,
    monitor: Process,
) -> Value {
    let (status, started, finished) = match stage {
        Stage::Created => ("created", NEVER, NEVER),
        Stage::Running => ("running", STARTED.0, NEVER),
        Stage::Ended { .. } => ("stopped", STARTED.0, FINISHED.0),
    };
    let mut state = json!({
        "ociVersion": "1.0.2-dev",
        "id": annotations["io.kubernetes.cri-o.ContainerID"],
        "status": status,
        "bundle": bundle,
        "annotations": annotations,
        "created": CREATED.0,
        "started": started,
        "finished": finished,
        "initPid": init.pid,
        "initStartTime": init.ticks.to_string(),
        "checkpointedTime": NEVER,
        "containerMonitorProcess": {"pid": monitor.pid, "startTime": monitor.ticks.to_string()},
    });
    if let Stage::Ended { code, oom } = stage {
        state["exitCode"] = code.into();
        if oom {
            state["oomKilled"] = true.into();
        }
    } else {
        state["pid"] = init.pid.into();
    }
    state
}

/// The state.json of a pod without a process.
pub(super) fn pod_state(stopped: bool) -> Value {
    json!({
        "ociVersion": "", "id": "", "status": if stopped { "stopped" } else { "" }, "bundle": "",
        "created": CREATED.0, "started": CREATED.0,
        "finished": if stopped { FINISHED.0 } else { NEVER },
        "checkpointedTime": NEVER,
    })
}

/// What the store keeps of a pod or container beside its names.
pub(super) fn storage_record(frame: &Frame, pod: &Pod, container: Option<&Container>) -> Value {
    let mut metadata = json!({
        "pod-name": pod.full_name(),
        "pod-id": pod.id,
        "image-name": frame.image,
        "image-id": frame.image_id,
        "created-at": CREATED.1 / 1_000_000_000,
    });
    let infra = format!("k8s_POD_{}_default_{}_0", pod.name, pod.uid);
    let (id, layer, names) = match container {
        None => {
            extend(
                &mut metadata,
                json!({"name": infra, "metadata-name": pod.name, "uid": pod.uid, "namespace": "default", "pod": true}),
            );
            (&pod.id, &pod.layer, vec![infra, pod.full_name()])
        }
        Some(container) => {
            let name = container.full_name(pod);
            extend(
                &mut metadata,
                json!({"name": name, "metadata-name": container.name}),
            );
            (&container.id, &container.layer, vec![name])
        }
    };
    json!({
        "id": id, "names": names, "image": frame.image_id, "layer": layer, "metadata": metadata.to_string(),
        "created": CREATED.0, "flags": {"MountLabel": "", "ProcessLabel": "", "Volatile": true},
    })
}

fn process(arguments: &[&str], terminal: bool, oom_score: i32, environment: &[&str]) -> Value {
    let capabilities = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_KILL",
    ]);
    let mut variables = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "TERM=xterm",
    ];
    variables.extend(environment);
    let mut process = json!({
        "user": {"uid": 0, "gid": 0},
        "args": arguments,
        "env": variables,
        "cwd": "/",
        "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        "oomScoreAdj": oom_score,
    });
    if terminal {
        process["terminal"] = true.into();
    }
    process
}

fn mounts(pod: &Path, access: &str) -> Value {
    let file = |destination: &str, name: &str| {
        json!({"destination": destination, "type": "bind", "source": pod.join(name),
            "options": [access, "bind", "nodev", "nosuid", "noexec"]})
    };
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/dev/shm", "type": "bind", "source": pod.join("shm"), "options": ["rw", "bind"]},
        file("/etc/resolv.conf", "resolv.conf"),
        file("/etc/hostname", "hostname"),
    ])
}

fn linux_namespaces(frame: &Frame, pod: &Pod, infra: Option<i32>) -> Value {
    let process_ids = match infra {
        Some(pid) => json!({"type": "pid", "path": format!("/proc/{pid}/ns/pid")}),
        None => json!({"type": "pid"}),
    };
    json!([
        process_ids,
        {"type": "network", "path": frame.pin("netns", pod)},
        {"type": "ipc", "path": frame.pin("ipcns", pod)},
        {"type": "uts", "path": frame.pin("utsns", pod)},
        {"type": "mount"},
    ])
}

fn extend(all: &mut Value, more: Value) {
    if let (Value::Object(all), Value::Object(more)) = (all, more) {
        let more: Map<String, Value> = more;
        all.extend(more);
    }
}
