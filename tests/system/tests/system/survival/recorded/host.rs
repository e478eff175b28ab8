//! What CRI-O leaves on a host beside its records: layers, mounts, namespaces, networks, cgroups, conmons.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use crioxide_test_support::TestNode;
use crioxide_test_support::waiting::eventually;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use sha2::Digest as _;
use tokio::process::Command;

use super::documents::{self, Container, Frame, Pod, Process, Stage};

const PLUGINS: &str = "/usr/lib/cni";

/// A node in the making, while no daemon runs.
#[derive(Debug)]
pub(super) struct Recorded<'a> {
    pub(super) frame: Frame,
    node: &'a TestNode,
    layer: String,
    layers: Vec<Value>,
    containers: Vec<Value>,
    mounts: Vec<Value>,
    runc: PathBuf,
    conmon: PathBuf,
}

impl<'a> Recorded<'a> {
    /// A node whose store has this one image, and nothing else.
    pub(super) fn begin(
        node: &'a TestNode,
        image: &str,
        runc: PathBuf,
        conmon: PathBuf,
    ) -> Result<Self> {
        let place = node.place();
        let images = read_json(&place.root().join("overlay-images/images.json"))?;
        let text = |key: &str| {
            let value = images[0][key].as_str().context("an image")?;
            anyhow::Ok(value.to_owned())
        };
        let frame = Frame {
            base: place.base().to_owned(),
            root: place.root().to_owned(),
            run: place.runroot(),
            cgroup: place.cgroup_parent(),
            image: image.to_owned(),
            image_id: text("id")?,
            digest: text("digest")?,
        };
        std::fs::create_dir_all(frame.base.join("data"))?;
        Ok(Self {
            layer: text("layer")?,
            frame,
            node,
            layers: Vec::new(),
            containers: Vec::new(),
            mounts: Vec::new(),
            runc,
            conmon,
        })
    }

    /// A pod with its network, and an infra process if wanted.
    pub(super) async fn pod(&mut self, name: &'static str, infra: bool) -> Result<Pod> {
        let id = self.id(name);
        let mut pod = Pod {
            uid: format!("11111111-1111-1111-1111-{}", &id[..12]),
            pins: format!("22222222-2222-2222-2222-{}", &id[..12]),
            layer: self.id(&format!("layer of {name}")),
            id,
            name,
            infra: None,
            ip: String::new(),
            network: Value::Null,
        };
        self.layer(
            &pod.layer,
            &format!("k8s_POD_{name}_default_{}_0-layer", pod.uid),
        )?;
        self.mount(&pod.layer)?;
        self.pin_namespaces(&pod).await?;
        pod.network = self.join_network(&pod).await?;
        let address = pod.network["ips"][0]["address"]
            .as_str()
            .unwrap_or_default();
        pod.ip = address.split('/').next().unwrap_or_default().to_owned();
        let run = self.frame.bundle(&pod.id);
        let kept = self.frame.kept(&pod.id);
        for folder in [&run.join("shm"), &kept] {
            std::fs::create_dir_all(folder)?;
        }
        let options = c"mode=1777,size=65536k";
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("shm", run.join("shm"), "tmpfs", flags, options).context("mount /dev/shm")?;
        std::fs::write(run.join("resolv.conf"), "nameserver 192.0.2.53\n")?;
        std::fs::write(run.join("hostname"), name)?;
        self.containers
            .push(documents::storage_record(&self.frame, &pod, None));
        let config = documents::pod_config(&self.frame, &pod, infra);
        for folder in [&run, &kept] {
            std::fs::write(folder.join("config.json"), config.to_string())?;
        }
        let group = format!("{}/crio-{}", self.frame.pod_cgroup(&pod), pod.id);
        if infra {
            let log = self
                .frame
                .base
                .join("log")
                .join(&pod.id)
                .with_extension("log");
            let name = format!("k8s_POD_{name}_default_{}_0", pod.uid);
            let made = self.conmon(&pod, &pod.id, &name, &log, &[]).await?;
            self.start(&pod.id).await?;
            let record = &config["annotations"];
            let state = documents::state(&run, record, Stage::Running, made.0, made.1);
            std::fs::write(kept.join("state.json"), state.to_string())?;
            pod.infra = Some(made.0.pid);
        } else {
            // CRI-O's own, as nobody else makes one for a pod without a process.
            make_group(&group)?;
            std::fs::write(
                run.join("state.json"),
                documents::pod_state(false).to_string(),
            )?;
        }
        Ok(pod)
    }

    /// What StopPodSandbox of a pod without a process leaves.
    pub(super) async fn stopped(&mut self, pod: &Pod) -> Result<()> {
        self.plugin(pod, "DEL").await?;
        for kind in ["netns", "utsns", "ipcns"] {
            let pin = self.frame.pin(kind, pod);
            unmount(&pin, UnmountFlags::DETACH)?;
            std::fs::remove_file(&pin)?;
        }
        std::fs::remove_file(self.cached_result(pod))?;
        let run = self.frame.bundle(&pod.id);
        unmount(run.join("shm"), UnmountFlags::DETACH)?;
        self.unmount(&pod.layer)?;
        for name in ["stopped", "network-stopped"] {
            std::fs::write(run.join(name), "")?;
        }
        std::fs::write(
            run.join("state.json"),
            documents::pod_state(true).to_string(),
        )?;
        Ok(())
    }

    /// A container that is created, running or was once; in the first two cases its conmon is there.
    pub(super) async fn container(
        &mut self,
        pod: &Pod,
        name: &'static str,
        script: &'static str,
        stage: Stage,
        (stdin, tty): (bool, bool),
    ) -> Result<(Container, Process)> {
        let container = Container {
            id: self.id(&format!("{name} in {}", pod.name)),
            layer: self.id(&format!("layer of {name} in {}", pod.name)),
            name,
            script,
            stdin,
            tty,
        };
        let full_name = container.full_name(pod);
        self.layer(&container.layer, &format!("{full_name}-layer"))?;
        self.containers.push(documents::storage_record(
            &self.frame,
            pod,
            Some(&container),
        ));
        let (run, kept) = (
            self.frame.bundle(&container.id),
            self.frame.kept(&container.id),
        );
        let config = documents::container_config(&self.frame, pod, &container);
        for folder in [&run, &kept] {
            std::fs::create_dir_all(folder)?;
            std::fs::write(folder.join("config.json"), config.to_string())?;
        }
        let log = self.frame.log(pod, &container);
        std::fs::create_dir_all(log.parent().context("a folder")?)?;
        let (init, monitor) = if let Stage::Ended { code, oom } = stage {
            std::fs::write(kept.join("exit"), code.to_string())?;
            if oom {
                std::fs::write(kept.join("oom"), "")?;
                std::fs::write(run.join("oom"), "")?;
            }
            std::fs::write(&log, "")?;
            (gone().await?, gone().await?)
        } else {
            self.mount(&container.layer)?;
            let mut options: Vec<&str> = Vec::new();
            if tty {
                options.push("-t");
            } else if stdin {
                options.extend(["--leave-stdin-open", "-i"]);
            }
            self.conmon(pod, &container.id, &full_name, &log, &options)
                .await?
        };
        if matches!(stage, Stage::Running) {
            self.start(&container.id).await?;
        }
        let state = documents::state(&run, &config["annotations"], stage, init, monitor);
        std::fs::write(kept.join("state.json"), state.to_string())?;
        Ok((container, init))
    }

    /// Writes the store's lists.
    pub(super) fn finish(self) -> Result<Frame> {
        let root = &self.frame.root;
        for (path, list) in [
            (
                root.join("overlay-containers/volatile-containers.json"),
                self.containers,
            ),
            (
                root.join("overlay-layers/volatile-layers.json"),
                self.layers,
            ),
            (
                self.frame.run.join("overlay-layers/mountpoints.json"),
                self.mounts,
            ),
        ] {
            std::fs::create_dir_all(path.parent().context("a folder")?)?;
            std::fs::write(&path, Value::from(list).to_string())
                .with_context(|| format!("write `{}`", path.display()))?;
        }
        Ok(self.frame)
    }

    fn id(&self, name: &str) -> String {
        let text = format!("{} {name}", self.frame.base.display());
        let hash = sha2::Sha256::digest(text.as_bytes());
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A read-write layer above the image's.
    fn layer(&mut self, id: &str, name: &str) -> Result<()> {
        let overlay = self.frame.root.join("overlay");
        let folder = overlay.join(id);
        for part in ["diff", "work", "merged"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        let link = id[..26].to_uppercase();
        std::os::unix::fs::symlink(format!("../{id}/diff"), overlay.join("l").join(&link))?;
        std::fs::write(folder.join("link"), link)?;
        let below = overlay.join(&self.layer);
        let mut lower = format!("l/{}", std::fs::read_to_string(below.join("link"))?);
        if let Ok(more) = std::fs::read_to_string(below.join("lower")) {
            lower = format!("{lower}:{more}");
        }
        std::fs::write(folder.join("lower"), lower)?;
        self.layers.push(json!({
            "id": id, "names": [name], "parent": self.layer, "created": documents::CREATED.0,
        }));
        Ok(())
    }

    fn mount(&mut self, layer: &str) -> Result<()> {
        let overlay = self.frame.root.join("overlay");
        let folder = overlay.join(layer);
        let lower: Vec<String> = std::fs::read_to_string(folder.join("lower"))?
            .split(':')
            .map(|link| overlay.join(link).display().to_string())
            .collect();
        let options = format!(
            "lowerdir={},upperdir={1}/diff,workdir={1}/work",
            lower.join(":"),
            folder.display()
        );
        let options = std::ffi::CString::new(options)?;
        let merged = self.frame.merged(layer);
        mount(
            "overlay",
            &merged,
            "overlay",
            MountFlags::NODEV,
            options.as_c_str(),
        )
        .with_context(|| format!("mount `{}`", merged.display()))?;
        self.mounts
            .push(json!({"id": layer, "path": merged, "count": 1}));
        Ok(())
    }

    fn unmount(&mut self, layer: &str) -> Result<()> {
        unmount(self.frame.merged(layer), UnmountFlags::DETACH)?;
        self.mounts.retain(|mount| mount["id"] != layer);
        Ok(())
    }

    async fn pin_namespaces(&self, pod: &Pod) -> Result<()> {
        let mut command = Command::new("unshare");
        for (option, kind) in [("--net", "netns"), ("--uts", "utsns"), ("--ipc", "ipcns")] {
            let pin = self.frame.pin(kind, pod);
            std::fs::create_dir_all(pin.parent().context("a folder")?)?;
            std::fs::write(&pin, "")?;
            command.arg(format!("{option}={}", pin.display()));
        }
        let name = format!("echo {} > /proc/sys/kernel/hostname", pod.name);
        run(command.args(["--", "sh", "-c", &name])).await.map(drop)
    }

    /// An ADD by the reference plugin, with libcni's note of it.
    async fn join_network(&self, pod: &Pod) -> Result<Value> {
        let result: Value = serde_json::from_str(&self.plugin(pod, "ADD").await?)?;
        let list = std::fs::read(self.frame.base.join("cni/10-test.conflist"))?;
        let cached = json!({
            "kind": "cniCacheV1",
            "containerId": pod.id,
            "config": base64(&list),
            "ifName": "eth0",
            "networkName": self.node.place().network(),
            "netns": self.frame.pin("netns", pod),
            "cniArgs": arguments(pod),
            "capabilityArgs": {
                "cgroupPath": self.frame.pod_cgroup(pod),
                "io.kubernetes.cri.pod-annotations": documents::pod_annotations(),
            },
            "result": result,
        });
        let path = self.cached_result(pod);
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        std::fs::write(path, cached.to_string())?;
        Ok(result)
    }

    fn cached_result(&self, pod: &Pod) -> PathBuf {
        let place = self.node.place();
        let name = format!("{}-{}-eth0", place.network(), pod.id);
        place.cni_cache().join("results").join(name)
    }

    async fn plugin(&self, pod: &Pod, command: &str) -> Result<String> {
        let list = read_json(&self.frame.base.join("cni/10-test.conflist"))?;
        let mut config = list["plugins"][0].clone();
        config["cniVersion"] = list["cniVersion"].clone();
        config["name"] = list["name"].clone();
        let input = self.frame.base.join("plugin-input.json");
        std::fs::write(&input, config.to_string())?;
        let pairs: Vec<String> = arguments(pod)
            .iter()
            .map(|pair| format!("{}={}", pair[0], pair[1]))
            .collect();
        run(Command::new(format!("{PLUGINS}/bridge"))
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &pod.id)
            .env("CNI_NETNS", self.frame.pin("netns", pod))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", PLUGINS)
            .env("CNI_ARGS", pairs.join(";"))
            .stdin(std::fs::File::open(input)?))
        .await
    }

    /// Creates a container as CRI-O does: conmon in its own cgroup with a socket to tell the process id by.
    async fn conmon(
        &self,
        pod: &Pod,
        id: &str,
        name: &str,
        log: &Path,
        options: &[&str],
    ) -> Result<(Process, Process)> {
        let base = &self.frame.base;
        let (bundle, kept) = (self.frame.bundle(id), self.frame.kept(id));
        let groups = make_group(&format!("{}/crio-conmon-{id}", self.frame.pod_cgroup(pod)))?;
        let joins: String = groups
            .iter()
            .map(|group| format!("echo $$ > {}/cgroup.procs\n", group.display()))
            .collect();
        let (told, go) = (base.join("conmon-told"), base.join("conmon-go"));
        std::fs::write(&told, "")?;
        std::fs::write(&go, [0])?;
        let script = format!(
            "set -e\n{joins}exec \"$@\" 3> {} 4< {}",
            told.display(),
            go.display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(&self.conmon);
        command.arg("-b").arg(&bundle).args(["-c", id]);
        command.arg("--exit-dir").arg(base.join("exits"));
        command
            .arg("-l")
            .arg(log)
            .args(["--log-level", "info", "-n", name]);
        command.arg("-P").arg(bundle.join("conmon-pidfile"));
        command.arg("-p").arg(bundle.join("pidfile"));
        command.arg("--persist-dir").arg(kept);
        command.arg("-r").arg(&self.runc).arg("--runtime-arg");
        command.arg(format!("--root={}", self.runtime_root().display()));
        command.arg("--socket-dir-path").arg(base.join("attach"));
        command.args(["--syslog", "-u", id]).args(options);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .current_dir(&bundle)
            .env_clear()
            .env("CRI_O_EXTERNAL", "1")
            .env("PATH", path)
            .env("_OCI_SYNCPIPE", "3")
            .env("_OCI_STARTPIPE", "4")
            .stdin(Stdio::null());
        let status = command.status().await.context("start conmon")?;
        ensure!(status.success(), "conmon ended with {status}");
        let answer = eventually("conmon tells the process id", async || {
            let text = std::fs::read_to_string(&told)?;
            Ok(serde_json::from_str::<Value>(text.trim())?)
        })
        .await?;
        let pid = answer["pid"].as_i64().unwrap_or(-1);
        ensure!(pid > 1, "conmon created no container: {answer}");
        let monitor = std::fs::read_to_string(bundle.join("conmon-pidfile"))?;
        Ok((
            process(i32::try_from(pid)?)?,
            process(monitor.trim().parse()?)?,
        ))
    }

    fn runtime_root(&self) -> PathBuf {
        self.frame.base.join("oci/conmon")
    }

    async fn start(&self, id: &str) -> Result<()> {
        let root = format!("--root={}", self.runtime_root().display());
        let mut command = Command::new(&self.runc);
        run(command.args([&root, "start", id])).await.map(drop)
    }
}

fn arguments(pod: &Pod) -> [[&str; 2]; 5] {
    [
        ["IgnoreUnknown", "1"],
        ["K8S_POD_NAMESPACE", "default"],
        ["K8S_POD_NAME", pod.name],
        ["K8S_POD_INFRA_CONTAINER_ID", &pod.id],
        ["K8S_POD_UID", &pod.uid],
    ]
}

/// Makes a cgroup in every hierarchy there is, also in one without controllers, as CRI-O does.
fn make_group(path: &str) -> Result<Vec<PathBuf>> {
    let mut groups = Vec::new();
    for root in hierarchies()? {
        let mut folder = root.clone();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            folder.push(part);
            if !folder.exists() {
                std::fs::create_dir(&folder)
                    .with_context(|| format!("create `{}`", folder.display()))?;
            }
            // A new cpuset of version 1 takes nobody in before it has processors and memory.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (own, above) = (folder.join(file), folder.join("..").join(file));
                if root.join("cpuset.sched_load_balance").exists() || root.join(file).exists() {
                    std::fs::write(&own, std::fs::read(above)?)?;
                }
            }
        }
        groups.push(folder);
    }
    Ok(groups)
}

/// Takes the groups of pods away, as a kubelet does. It fails if they are not empty.
pub(super) fn remove_pod_groups(frame: &Frame, pods: &[&Pod]) -> Result<()> {
    for pod in pods {
        for root in hierarchies()? {
            let folder = root.join(frame.pod_cgroup(pod).trim_start_matches('/'));
            if folder.exists() {
                std::fs::remove_dir(&folder)
                    .with_context(|| format!("remove `{}`", folder.display()))?;
            }
        }
    }
    Ok(())
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let of_cgroups = mounts.lines().filter(|line| {
        let kind = line.split_once(" - ").map(|(_, kind)| kind);
        kind.is_some_and(|kind| kind.starts_with("cgroup"))
    });
    Ok(of_cgroups
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .collect())
}

fn process(pid: i32) -> Result<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold anything; the start is the twentieth field after it.
    let (_, fields) = stat.rsplit_once(')').context("a name in brackets")?;
    let ticks = fields.split_whitespace().nth(19).context("a start time")?;
    Ok(Process {
        pid,
        ticks: ticks.parse()?,
    })
}

/// A process that was and is no more.
async fn gone() -> Result<Process> {
    let mut child = Command::new("true").spawn()?;
    let pid = child.id().context("a process id")?;
    child.wait().await?;
    Ok(Process {
        pid: i32::try_from(pid)?,
        ticks: 1,
    })
}

async fn run(command: &mut Command) -> Result<String> {
    let done = command.output().await?;
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout).into_owned(),
        String::from_utf8_lossy(&done.stderr),
    );
    ensure!(
        done.status.success(),
        "{command:?}: {}: {out} {err}",
        done.status
    );
    Ok(out)
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read(path).with_context(|| format!("read `{}`", path.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
