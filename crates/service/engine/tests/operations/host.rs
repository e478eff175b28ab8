//! A host that keeps account of what was taken from it, and fails or stops where a test says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use async_trait::async_trait;
use crioxide_cri_api::v1;
use crioxide_engine::{
    Engine, Handler, ImageVolumes, MetricGroup, Settings,
    ports::{
        CheckpointSupport, ConfinementRequest, DevicesRequest, HooksRequest, ImageService,
        ImageStatus, LabelRequest, Labels, MissingSource, NamespacePaths, NamespaceRequest,
        Network, NetworkResult, Owner, PodNetwork, PortConnection, PortResult, Ports, PullRequest,
        RecordDirs, ResolvedImage, SandboxFiles, SandboxHost, SandboxPaths, Stats, StatsDetail,
        StatsReading, StatsTarget, StoredRecord,
    },
};
use crioxide_names::{ImageId, PodId};
use crioxide_runtime_spec::{
    Confinement, Devices, HostFacts, SpecDefaults,
    image_facts::ImageFacts,
    mounts::volumes::{RecursiveReadOnly, VolumeSource},
    resources::{CgroupFacts, CgroupVersion, Controller},
};
use tokio::time::Instant;

/// What a step does when a test is interested in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It reports a failure, having taken nothing.
    Fail,
    /// It never ends, as at the death of the daemon.
    Hang,
}

/// The host, and all of the engine's ports.
#[derive(Default)]
pub(crate) struct FakeHost {
    pub(crate) fault: Mutex<Option<(&'static str, Fault)>>,
    /// Steps in order, `take x` and `give x` among them.
    pub(crate) log: Mutex<Vec<String>>,
    /// What is taken now.
    pub(crate) held: Mutex<BTreeSet<String>>,
    pub(crate) records: Mutex<BTreeMap<String, StoredRecord>>,
    /// Signals sent, with their time.
    pub(crate) signals: Mutex<Vec<(i32, Instant)>>,
    /// Processes that are there, by container.
    pub(crate) alive: Mutex<BTreeSet<String>>,
    /// Ends the process inside of `start` with this code.
    pub(crate) exit_in_start: Mutex<Option<i32>>,
    /// Processes do not die of SIGKILL.
    pub(crate) immortal: std::sync::atomic::AtomicBool,
    pub(crate) engine: OnceLock<Engine>,
}

impl FakeHost {
    /// An engine on a new host.
    pub(crate) fn new() -> (Arc<Self>, Engine) {
        let host = Arc::new(Self::default());
        let engine = host.daemon();
        let _ = host.engine.set(engine.clone());
        (host, engine)
    }

    /// Another daemon on the same host.
    pub(crate) fn daemon(self: &Arc<Self>) -> Engine {
        self.daemon_with(settings())
    }

    /// An engine that tells events, on a new host.
    pub(crate) fn with_events() -> (Arc<Self>, Engine) {
        let host = Arc::new(Self::default());
        let engine = host.daemon_with(Settings {
            pod_events: true,
            ..settings()
        });
        let _ = host.engine.set(engine.clone());
        (host, engine)
    }

    fn daemon_with(self: &Arc<Self>, settings: Settings) -> Engine {
        // Labels are counted in a daemon's memory.
        self.give("label");
        let ports = Ports {
            images: self.clone(),
            records: self.clone(),
            network: self.clone(),
            host: self.clone(),
            backend: self.clone(),
            checkpoints: self.clone(),
            stats: self.clone(),
        };
        Engine::new(ports, settings)
    }

    pub(crate) fn fault_at(&self, step: &'static str, fault: Fault) {
        *self.fault.lock().unwrap() = Some((step, fault));
    }

    pub(crate) fn no_fault(&self) {
        *self.fault.lock().unwrap() = None;
    }

    pub(crate) fn held(&self) -> Vec<String> {
        self.held.lock().unwrap().iter().cloned().collect()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) async fn step(&self, name: &str) -> PortResult<()> {
        self.log.lock().unwrap().push(name.to_owned());
        let fault = *self.fault.lock().unwrap();
        match fault {
            Some((step, Fault::Fail)) if step == name => Err(format!("broken {name}").into()),
            Some((step, Fault::Hang)) if step == name => std::future::pending().await,
            _ => {
                // Others run meanwhile, as with real work.
                tokio::task::yield_now().await;
                Ok(())
            }
        }
    }

    pub(crate) fn take(&self, what: &str) {
        self.log.lock().unwrap().push(format!("take {what}"));
        let new = self.held.lock().unwrap().insert(what.to_owned());
        assert!(new, "{what} was taken twice");
    }

    pub(crate) fn give(&self, what: &str) {
        if self.held.lock().unwrap().remove(what) {
            self.log.lock().unwrap().push(format!("give {what}"));
        }
    }
}

fn settings() -> Settings {
    let cgroups = CgroupFacts {
        version: CgroupVersion::V2,
        swap: Controller::Available,
        hugetlb: Controller::Available,
    };
    Settings {
        version: "1.0.0".to_owned(),
        default_handler: "crioxide".to_owned(),
        handlers: BTreeMap::from([("crioxide".to_owned(), Handler::default())]),
        workloads: Vec::new(),
        log_dir: "/var/log/pods".to_owned(),
        pod_events: false,
        pod_metrics: MetricGroup::set(["all"]),
        sysctls: Vec::new(),
        node_hostname: "node".to_owned(),
        rejected_mount_sources: Vec::new(),
        infra_cpuset: String::new(),
        pause_image: "pause".to_owned(),
        always_pause: false,
        image_volumes: ImageVolumes::Mkdir,
        artifact_mounts: true,
        checkpoints: CheckpointSupport::Restore,
        cgroups,
        host: HostFacts {
            cgroup: cgroups,
            bounding: SpecDefaults::default().capabilities.into_iter().collect(),
            recursive_read_only: RecursiveReadOnly::Supported,
        },
        defaults: SpecDefaults::default(),
    }
}

#[async_trait]
impl SandboxHost for FakeHost {
    async fn create_namespaces(
        &self,
        pod: &PodId,
        request: &NamespaceRequest,
    ) -> PortResult<NamespacePaths> {
        self.step("create_namespaces").await?;
        self.take("namespaces");
        let pin = |wanted: bool, kind: &str| {
            wanted.then(|| PathBuf::from(format!("/run/{kind}ns/{pod}")))
        };
        Ok(NamespacePaths {
            net: pin(request.net, "net"),
            ipc: pin(request.ipc, "ipc"),
            uts: pin(request.uts, "uts"),
            ..NamespacePaths::default()
        })
    }

    async fn create_pause_root(&self, dirs: &RecordDirs, _: Option<Owner>) -> PortResult<PathBuf> {
        self.step("create_pause_root").await?;
        Ok(dirs.run.join("pause"))
    }

    async fn remove_namespaces(&self, _: &PodId, _: &NamespacePaths) -> PortResult<()> {
        self.step("remove_namespaces").await?;
        self.give("namespaces");
        Ok(())
    }

    async fn create_files(&self, dirs: &RecordDirs, _: SandboxFiles) -> PortResult<SandboxPaths> {
        self.step("create_files").await?;
        self.take("files");
        Ok(SandboxPaths {
            resolv_conf: dirs.run.join("resolv.conf"),
            hostname: dirs.run.join("hostname"),
            containerenv: dirs.run.join(".containerenv"),
            shm: dirs.run.join("shm"),
        })
    }

    async fn remove_files(&self, _: &RecordDirs) -> PortResult<()> {
        self.step("remove_files").await?;
        self.give("files");
        Ok(())
    }

    async fn prepare_cgroup(&self, _: &RecordDirs, _: &str) -> PortResult<()> {
        self.step("prepare_cgroup").await?;
        // Of a restored pod it is there already.
        if !self.held().contains(&"cgroup".to_owned()) {
            self.take("cgroup");
        }
        Ok(())
    }

    async fn release_cgroup(&self, _: &RecordDirs, _: &str) -> PortResult<()> {
        self.step("release_cgroup").await?;
        self.give("cgroup");
        Ok(())
    }

    async fn create_log_dir(&self, _: &str) -> PortResult<()> {
        self.step("create_log_dir").await
    }

    async fn mount_source(&self, path: &str, _: MissingSource) -> PortResult<VolumeSource> {
        Ok(VolumeSource {
            path: path.into(),
            mount_point: "/".into(),
            ..VolumeSource::default()
        })
    }

    async fn create_in_root(&self, _: &Path, _: Vec<String>, _: Option<Owner>) -> PortResult<()> {
        Ok(())
    }

    async fn check_root(&self, _: &Path) -> PortResult<()> {
        Ok(())
    }

    async fn labels(&self, request: LabelRequest) -> PortResult<Labels> {
        self.step("labels").await?;
        if request.pod.is_none() {
            self.take("label");
        }
        Ok(Labels {
            process: "process:s0:c1,c2".to_owned(),
            mount: "mount:s0:c1,c2".to_owned(),
        })
    }

    fn keep_label(&self, mount_label: &str) {
        if !mount_label.is_empty() {
            self.held.lock().unwrap().insert("label".to_owned());
        }
    }

    fn release_label(&self, _: &str) {
        self.give("label");
    }

    async fn relabel(&self, _: &Path, _: &str) -> PortResult<()> {
        self.step("relabel").await
    }

    async fn confinement(&self, _: ConfinementRequest) -> PortResult<Confinement> {
        self.step("confinement").await?;
        Ok(Confinement::default())
    }

    async fn devices(&self, _: DevicesRequest) -> PortResult<Devices> {
        Ok(Devices::default())
    }

    async fn hooks(&self, _: HooksRequest) -> PortResult<Option<oci_spec::runtime::Hooks>> {
        Ok(None)
    }
}

#[async_trait]
impl Network for FakeHost {
    async fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    async fn add(&self, _: &PodNetwork) -> PortResult<NetworkResult> {
        self.step("network.add").await?;
        self.take("network");
        Ok(NetworkResult {
            ips: vec!["10.1.0.2".parse()?],
            result: Some("{}".to_owned()),
        })
    }

    async fn remove(&self, _: &PodNetwork) -> PortResult<()> {
        self.step("network.remove").await?;
        self.give("network");
        Ok(())
    }

    async fn connect(&self, _: &Path, _: u16) -> PortResult<Box<dyn PortConnection>> {
        Err("the fake host streams nothing".into())
    }

    async fn sweep(&self, _: &[String]) -> PortResult<()> {
        Ok(())
    }
}

#[async_trait]
impl ImageService for FakeHost {
    async fn resolve(&self, image: &str) -> PortResult<Option<ResolvedImage>> {
        let known = ["busybox", "checkpoint"].contains(&image);
        Ok(known.then(|| ResolvedImage {
            id: ImageId::generate(),
            name: image.to_owned(),
            checkpoint: (image == "checkpoint").then(|| "main".to_owned()),
            repo_digests: Vec::new(),
            config: ImageFacts {
                cmd: vec!["/bin/sh".to_owned()],
                ..ImageFacts::default()
            },
        }))
    }

    async fn list(&self, _: Option<String>) -> PortResult<Vec<v1::Image>> {
        Ok(Vec::new())
    }

    async fn status(&self, _: &str) -> PortResult<Option<ImageStatus>> {
        Ok(None)
    }

    async fn pull(&self, _: PullRequest) -> PortResult<ImageId> {
        Ok(ImageId::generate())
    }

    async fn remove(&self, _: &str) -> PortResult<()> {
        Ok(())
    }

    async fn fs_info(&self) -> PortResult<v1::ImageFsInfoResponse> {
        Ok(v1::ImageFsInfoResponse::default())
    }
}

#[async_trait]
impl Stats for FakeHost {
    async fn read(&self, targets: Vec<StatsTarget>) -> Vec<StatsReading> {
        targets.iter().map(|_| StatsReading::default()).collect()
    }

    async fn detail(&self, targets: Vec<StatsTarget>) -> Vec<StatsDetail> {
        targets.iter().map(|_| StatsDetail::default()).collect()
    }

    fn forget(&self, id: &str) {
        self.log.lock().unwrap().push(format!("forget {id}"));
    }
}
