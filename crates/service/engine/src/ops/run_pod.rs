//! RunPodSandbox.
//!
//! The record in the store comes first: it is the intent that a crash is cleaned up by, and everything else a pod
//! takes is named after its id. config.json comes last (with a real infra container: state.json), and only a pod that
//! has it exists after a restart. Namespaces and network, files and shared memory, and the monitor are made side by
//! side.

use std::{path::Path, sync::Arc};

use crioxide_cri_api::v1;
use crioxide_names::{ContainerId, PodId};
use crioxide_node_records::{
    ContainerState, SandboxAnnotations, StorageMetadata,
    container_state::{ContainerStatus, MonitorProcess, OCI_STATE_VERSION},
    go_time,
    record_names::{self, PodIdentity},
};
use crioxide_runtime_spec::{
    SandboxSpecRequest, cgroups_path, files,
    hostname::{self, NetworkScope},
    labels,
    mounts::fixed::PodFiles,
    namespaces::{NamespaceSource, NamespaceSources},
    port_mappings, sandbox_spec,
    sysctls::{self, SharedNamespaces},
};
use tokio::sync::watch;

use crate::{
    Engine, EngineError,
    error::Context as _,
    ops::exits::now_nanoseconds,
    pod::{Pause, Pod, PodParts, pod_network},
    ports::{
        ConfinementRequest, ContainerProcess, CreateProcess, NamespacePaths, NamespaceRequest,
        NetworkResult, NewRecord, ProcessId, RecordDirs, SandboxFiles, SandboxPaths,
    },
    undo::Undo,
};

/// Size of a pod's /dev/shm, bytes (CRI-O's default).
const SHM_SIZE: u64 = 64 << 20;

/// Everything that is decided before the host is touched.
struct Plan {
    id: PodId,
    name: String,
    handler: String,
    config: v1::PodSandboxConfig,
    metadata: v1::PodSandboxMetadata,
    options: v1::NamespaceOption,
    hostname: String,
    resolv_conf: Option<String>,
    sysctls: std::collections::BTreeMap<String, String>,
    cgroup_parent: String,
    log_dir: String,
    privileged: bool,
    /// A real infra container holds the pod's PID namespace.
    pause: bool,
}

/// What the host gave.
struct Made {
    namespaces: NamespacePaths,
    network: NetworkResult,
    paths: SandboxPaths,
}

impl Engine {
    /// Makes a pod sandbox, or joins the making of the one with the same name, uid and attempt.
    ///
    /// # Errors
    /// A request that makes no sense, or the first step that failed; everything taken so far is given back.
    pub async fn run_pod(
        &self,
        config: v1::PodSandboxConfig,
        handler: String,
    ) -> Result<PodId, EngineError> {
        let metadata = checked_metadata(&config)?;
        let name = record_names::sandbox_name(identity(&metadata));
        let existing = || {
            let id = self.inner.pods.id_of(&name)?;
            PodId::parse(&id).ok()
        };
        let engine = self.clone();
        let make_name = name.clone();
        let make = move || async move {
            let plan = engine.plan_pod(config, metadata, make_name, handler)?;
            engine.make_pod(plan).await
        };
        self.inner.pod_creations.join(&name, existing, make).await
    }

    fn plan_pod(
        &self,
        config: v1::PodSandboxConfig,
        metadata: v1::PodSandboxMetadata,
        name: String,
        handler: String,
    ) -> Result<Plan, EngineError> {
        let settings = &self.inner.settings;
        let handler = if handler.is_empty() {
            settings.default_handler.clone()
        } else {
            handler
        };
        if !settings.handlers.contains_key(&handler) {
            let known = settings
                .handlers
                .keys()
                .cloned()
                .collect::<Vec<_>>()
                .join(" ");
            return Err(EngineError::refused(format!(
                "failed to find runtime handler {handler} from runtime list [{known}]"
            )));
        }
        let bad = |error: &(dyn std::error::Error + 'static)| {
            EngineError::failed(format!("pod {name}"), error)
        };
        labels::check_sizes(&config.labels).map_err(|error| bad(&error))?;
        let id = PodId::generate();
        let linux = config.linux.clone().unwrap_or_default();
        let security = linux.security_context.clone().unwrap_or_default();
        let options = security.namespace_options.clone().unwrap_or_default();
        check_namespaces(&name, &options)?;
        let options_pid = options.pid();
        let host_network = options.network() == v1::NamespaceMode::Node;
        let scope = if host_network {
            NetworkScope::Node
        } else {
            NetworkScope::Pod
        };
        let hostname = hostname::hostname(
            &config.hostname,
            id.as_str(),
            &settings.node_hostname,
            scope,
        )
        .map_err(|error| bad(&error))?;
        let resolv_conf =
            files::resolv_conf(config.dns_config.as_ref()).map_err(|error| bad(&error))?;
        let shared = SharedNamespaces {
            network: host_network,
            ipc: options.ipc() == v1::NamespaceMode::Node,
        };
        let defaults = settings
            .sysctls
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()));
        let requested = linux.sysctls.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let selected = sysctls::select(defaults, requested, shared);
        for warning in &selected.warnings {
            tracing::warn!("Pod {name}: {warning}");
        }
        let manager = settings.defaults.cgroup_manager;
        cgroups_path::cgroups_path(manager, &linux.cgroup_parent, id.as_str())
            .map_err(|error| bad(&error))?;
        port_mappings::host_ports(&config.port_mappings).map_err(|error| bad(&error))?;
        let log_dir = match config.log_directory.as_str() {
            "" => format!("{}/{id}", settings.log_dir),
            directory => directory.to_owned(),
        };
        Ok(Plan {
            id,
            name,
            handler,
            metadata,
            options,
            hostname,
            resolv_conf,
            sysctls: selected.values,
            cgroup_parent: linux.cgroup_parent.clone(),
            log_dir,
            privileged: security.privileged,
            pause: options_pid == v1::NamespaceMode::Pod || settings.always_pause,
            config,
        })
    }

    async fn make_pod(&self, plan: Plan) -> Result<PodId, EngineError> {
        let mut undo = Undo::default();
        match self.build_pod(&plan, &mut undo).await {
            Ok(pod) => {
                let id = pod.id.clone();
                self.inner
                    .pods
                    .insert(id.as_str(), &plan.name, Arc::new(pod));
                tracing::info!("Ran pod sandbox {id} with infra container: {}", plan.name);
                Ok(id)
            }
            Err(error) => {
                undo.run().await;
                Err(error)
            }
        }
    }

    async fn build_pod(&self, plan: &Plan, undo: &mut Undo) -> Result<Pod, EngineError> {
        let ports = &self.inner.ports;
        let record_id = ContainerId::from(&plan.id);
        let created = now_nanoseconds();
        let record = new_record(plan, &self.inner.settings.pause_image, created);
        let dirs = ports
            .records
            .create(record)
            .await
            .doing(|| format!("failed to create pod {}", plan.name))?;
        let (records, id) = (ports.records.clone(), record_id.clone());
        undo.push("the pod's record", move || async move {
            records.remove(&id).await
        });
        ports
            .host
            .create_log_dir(&plan.log_dir)
            .await
            .doing(|| format!("pod {}", plan.name))?;
        // Before it is made: its levels may be there in part after a failure.
        let (host, owned_dirs, parent) =
            (ports.host.clone(), dirs.clone(), plan.cgroup_parent.clone());
        undo.push("the pod's cgroup", move || async move {
            host.release_cgroup(&owned_dirs, &parent).await
        });
        let prepared = ports.host.prepare_cgroup(&dirs, &plan.cgroup_parent).await;
        prepared.doing(|| format!("failed to make the cgroup of pod {}", plan.name))?;

        let mut made = self.make_parts(plan, &dirs, undo).await?;
        let info = self.annotations(plan, &made, created);
        let pause_root = match plan.pause {
            true => Some(
                ports
                    .host
                    .create_pause_root(&dirs)
                    .await
                    .doing(|| format!("pod {}", plan.name))?,
            ),
            false => None,
        };
        let spec = self
            .pod_spec(plan, &made, &info, pause_root.as_deref())
            .await?;
        let text = serde_json::to_string_pretty(&spec)
            .map_err(|e| EngineError::failed("write config.json", &e))?;
        let saved = ports
            .records
            .save_config(&dirs, text.clone().into_bytes())
            .await;
        saved.doing(|| format!("failed to record pod {}", plan.name))?;
        let mut pause = None;
        if plan.pause {
            let process = self.start_pause(plan, &dirs, &spec, undo).await?;
            if plan.options.pid() == v1::NamespaceMode::Pod {
                made.namespaces.pid = Some(format!("/proc/{}/ns/pid", process.init.pid).into());
            }
            let state = pause_state(plan, &dirs, &process, &info, created);
            let json = state
                .to_json()
                .map_err(|error| EngineError::failed("write state.json", &error))?;
            let saved = ports.records.save_state(&dirs, json).await;
            saved.doing(|| format!("failed to record pod {}", plan.name))?;
            pause = Some(Pause {
                process: process.init,
                ended: watch::Sender::new(false),
            });
        }
        Ok(Pod::new(PodParts {
            id: plan.id.clone(),
            info,
            dirs,
            namespaces: made.namespaces,
            paths: made.paths,
            pause,
            spec: text.into(),
            stopped: false,
            torn_down: false,
            network_stopped: false,
        }))
    }

    /// Namespaces with network, files, and the monitor, side by side.
    async fn make_parts(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
        undo: &mut Undo,
    ) -> Result<Made, EngineError> {
        let (network, files, monitor) = tokio::join!(
            self.make_network(plan),
            self.make_files(plan, dirs),
            self.make_monitor(plan, dirs)
        );
        let (namespaces, files, monitor) =
            (take(network, undo), take(files, undo), take(monitor, undo));
        let ((namespaces, network), paths) = (namespaces?, files?);
        monitor?;
        Ok(Made {
            namespaces,
            network,
            paths,
        })
    }

    /// The infra container: made and run like any other, under the pod's own id.
    async fn start_pause(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
        spec: &oci_spec::runtime::Spec,
        undo: &mut Undo,
    ) -> Result<ContainerProcess, EngineError> {
        let backend = &self.inner.ports.backend;
        let id = ContainerId::from(&plan.id);
        let request = CreateProcess {
            pod: plan.id.clone(),
            id: id.clone(),
            name: record_names::infra_container_name(identity(&plan.metadata)),
            handler: plan.handler.clone(),
            dirs: dirs.clone(),
            cgroups_path: crate::container::cgroups_path(spec),
            log_path: format!("{}/{}.log", plan.log_dir.trim_end_matches('/'), plan.id).into(),
            terminal: false,
            stdin: false,
            stdin_once: false,
        };
        let failed = || format!("failed to start the infra container of pod {}", plan.name);
        let process = backend.create(&request).await.doing(failed)?;
        let (owner, pod, handler, owned) = (
            backend.clone(),
            plan.id.clone(),
            plan.handler.clone(),
            dirs.clone(),
        );
        let infra = id.clone();
        undo.push("the infra container", move || async move {
            owner.delete(&pod, &handler, &infra, &owned).await
        });
        backend.start(&plan.handler, &id).await.doing(failed)?;
        Ok(process)
    }

    async fn make_network(&self, plan: &Plan) -> Part<(NamespacePaths, NetworkResult)> {
        let ports = &self.inner.ports;
        let host_network = plan.options.network() == v1::NamespaceMode::Node;
        let request = NamespaceRequest {
            net: !host_network,
            ipc: plan.options.ipc() != v1::NamespaceMode::Node,
            uts: true,
            sysctls: plan
                .sysctls
                .iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            hostname: plan.hostname.clone(),
        };
        let mut undo = Undo::default();
        let namespaces = ports.host.create_namespaces(&plan.id, &request).await;
        let namespaces =
            match namespaces.doing(|| format!("failed to make namespaces of pod {}", plan.name)) {
                Ok(namespaces) => namespaces,
                Err(error) => return (Err(error), undo),
            };
        let (host, id, known) = (ports.host.clone(), plan.id.clone(), namespaces.clone());
        undo.push("the pod's namespaces", move || async move {
            host.remove_namespaces(&id, &known).await
        });
        if host_network {
            return (Ok((namespaces, NetworkResult::default())), undo);
        }
        let pod = pod_network(&self.network_annotations(plan), &namespaces);
        if let Err(reason) = ports.network.ready().await {
            let error = EngineError::refused(format!(
                "failed to create pod network sandbox {}: {reason}",
                plan.name
            ));
            return (Err(error), undo);
        }
        match ports
            .network
            .add(&pod)
            .await
            .doing(|| format!("failed to create pod network sandbox {}", plan.name))
        {
            Ok(result) => {
                let network = ports.network.clone();
                undo.push("the pod's network", move || async move {
                    network.remove(&pod).await
                });
                (Ok((namespaces, result)), undo)
            }
            Err(error) => (Err(error), undo),
        }
    }

    async fn make_files(&self, plan: &Plan, dirs: &RecordDirs) -> Part<SandboxPaths> {
        let files = SandboxFiles {
            resolv_conf: plan.resolv_conf.clone(),
            hostname: plan.hostname.clone(),
            shm_size: (plan.options.ipc() != v1::NamespaceMode::Node).then_some(SHM_SIZE),
        };
        let mut undo = Undo::default();
        let host = self.inner.ports.host.clone();
        let made = host
            .create_files(dirs, files)
            .await
            .doing(|| format!("failed to write files of pod {}", plan.name));
        let dirs = dirs.clone();
        undo.push("the pod's files", move || async move {
            host.remove_files(&dirs).await
        });
        (made, undo)
    }

    async fn make_monitor(&self, plan: &Plan, dirs: &RecordDirs) -> Part<ProcessId> {
        let mut undo = Undo::default();
        let backend = self.inner.ports.backend.clone();
        let started = backend
            .start_monitor(&plan.id, dirs, &plan.cgroup_parent)
            .await;
        let started = started.doing(|| format!("failed to start the monitor of pod {}", plan.name));
        let id = plan.id.clone();
        undo.push("the pod's monitor", move || async move {
            backend.stop_monitor(&id).await
        });
        (started, undo)
    }

    /// As much of the record as networks are told, before there is an address.
    fn network_annotations(&self, plan: &Plan) -> SandboxAnnotations {
        let nothing = Made {
            namespaces: NamespacePaths::default(),
            network: NetworkResult::default(),
            paths: SandboxPaths::default(),
        };
        self.annotations(plan, &nothing, 0)
    }

    fn annotations(&self, plan: &Plan, made: &Made, created: i64) -> SandboxAnnotations {
        let settings = &self.inner.settings;
        let mut annotations: std::collections::BTreeMap<_, _> =
            plan.config.annotations.clone().into_iter().collect();
        for (key, value) in &settings.handlers[&plan.handler].default_annotations {
            annotations
                .entry(key.clone())
                .or_insert_with(|| value.clone());
        }
        let linux = plan.config.linux.clone().unwrap_or_default();
        SandboxAnnotations {
            id: plan.id.to_string(),
            name: plan.name.clone(),
            infra_container_name: record_names::infra_container_name(identity(&plan.metadata)),
            namespace: plan.metadata.namespace.clone(),
            kube_name: plan.metadata.name.clone(),
            hostname: plan.hostname.clone(),
            hostname_path: made.paths.hostname.to_string_lossy().into_owned(),
            resolv_path: made.paths.resolv_conf.to_string_lossy().into_owned(),
            shm_path: made.paths.shm.to_string_lossy().into_owned(),
            mount_point: String::new(),
            log_path: format!("{}/{}.log", plan.log_dir.trim_end_matches('/'), plan.id),
            cgroup_parent: plan.cgroup_parent.clone(),
            privileged: plan.privileged,
            host_network: plan.options.network() == v1::NamespaceMode::Node,
            runtime_handler: plan.handler.clone(),
            namespace_options: (&plan.options).into(),
            port_mappings: port_mappings::host_ports(&plan.config.port_mappings)
                .unwrap_or_default(),
            cni_result: made.network.result.clone(),
            ips: made.network.ips.iter().map(ToString::to_string).collect(),
            created: go_time::from_unix_nanoseconds(created),
            metadata: (&plan.metadata).into(),
            labels: labels::sandbox_labels(&plan.config.labels, &plan.metadata),
            annotations,
            seccomp_profile: String::new(),
            image: settings.pause_image.clone(),
            image_name: settings.pause_image.clone(),
            overhead: linux.overhead.as_ref().map(Into::into),
            resources: linux.resources.as_ref().map(Into::into),
            spoofed: !plan.pause,
            stop_signal: None,
        }
    }

    async fn pod_spec(
        &self,
        plan: &Plan,
        made: &Made,
        info: &SandboxAnnotations,
        pause_root: Option<&Path>,
    ) -> Result<oci_spec::runtime::Spec, EngineError> {
        let settings = &self.inner.settings;
        let security = plan
            .config
            .linux
            .clone()
            .unwrap_or_default()
            .security_context
            .unwrap_or_default();
        let request = ConfinementRequest {
            handler: plan.handler.clone(),
            privileged: plan.privileged,
            seccomp: security.seccomp,
            apparmor: security.apparmor,
            capabilities: Vec::new(),
        };
        let confinement = self.inner.ports.host.confinement(request).await;
        let confinement =
            confinement.doing(|| format!("security profiles of pod {}", plan.name))?;
        let files = PodFiles {
            shm: Some(made.paths.shm.clone()),
            resolv_conf: Some(made.paths.resolv_conf.clone()),
            hostname: Some(made.paths.hostname.clone()),
            ..PodFiles::default()
        };
        sandbox_spec(&SandboxSpecRequest {
            id: plan.id.as_str(),
            config: &plan.config,
            command: &["/pause".to_owned()],
            rootfs: pause_root.unwrap_or(Path::new("")),
            hostname: &plan.hostname,
            cgroup_parent: &plan.cgroup_parent,
            namespaces: &namespace_sources(&made.namespaces, &plan.options),
            files: &files,
            sysctls: &plan.sysctls,
            cpuset: &settings.infra_cpuset,
            confinement: &confinement,
            annotations: info.to_map(),
            host: &settings.host,
            defaults: &settings.defaults,
        })
        .map_err(|error| EngineError::failed(format!("pod {}", plan.name), &error))
    }
}

type Part<T> = (Result<T, EngineError>, Undo);

/// Takes over what a part acquired, whether it succeeded or not.
fn take<T>((result, part): Part<T>, undo: &mut Undo) -> Result<T, EngineError> {
    undo.append(part);
    result
}

fn checked_metadata(config: &v1::PodSandboxConfig) -> Result<v1::PodSandboxMetadata, EngineError> {
    let metadata = config
        .metadata
        .clone()
        .ok_or_else(|| EngineError::refused("PodSandboxConfig.Metadata is nil"))?;
    for (field, value) in [
        ("Name", &metadata.name),
        ("Namespace", &metadata.namespace),
        ("Uid", &metadata.uid),
    ] {
        if value.is_empty() {
            return Err(EngineError::refused(format!(
                "PodSandboxConfig.Metadata.{field} is empty"
            )));
        }
        if value.contains(['/', '\0', '\n']) {
            return Err(EngineError::refused(format!(
                "PodSandboxConfig.Metadata.{field} {value:?} has forbidden characters"
            )));
        }
    }
    Ok(metadata)
}

pub(crate) fn identity(metadata: &v1::PodSandboxMetadata) -> PodIdentity<'_> {
    PodIdentity {
        name: &metadata.name,
        namespace: &metadata.namespace,
        uid: &metadata.uid,
        attempt: metadata.attempt,
    }
}

fn check_namespaces(name: &str, options: &v1::NamespaceOption) -> Result<(), EngineError> {
    if let Some(user) = &options.userns_options
        && user.mode() != v1::NamespaceMode::Node
    {
        return Err(EngineError::refused(format!(
            "pod {name}: user namespaces are not supported yet"
        )));
    }
    if options.pid() == v1::NamespaceMode::Target {
        return Err(EngineError::refused(format!(
            "pod {name}: a pod has no target for its PID namespace"
        )));
    }
    Ok(())
}

/// The namespaces of the pod's own container; a PID namespace of its own is not joined but made.
fn namespace_sources(paths: &NamespacePaths, options: &v1::NamespaceOption) -> NamespaceSources {
    let source = |path: &Option<std::path::PathBuf>| match path {
        Some(path) => NamespaceSource::Path(path.clone()),
        None => NamespaceSource::Host,
    };
    NamespaceSources {
        pid: match (&paths.pid, options.pid()) {
            (Some(path), _) => NamespaceSource::Path(path.clone()),
            (None, v1::NamespaceMode::Node) => NamespaceSource::Host,
            (None, _) => NamespaceSource::Private,
        },
        network: source(&paths.net),
        ipc: source(&paths.ipc),
        uts: source(&paths.uts),
        ..NamespaceSources::default()
    }
}

fn new_record(plan: &Plan, pause_image: &str, created: i64) -> NewRecord {
    let infra = record_names::infra_container_name(identity(&plan.metadata));
    NewRecord {
        id: ContainerId::from(&plan.id),
        names: vec![infra.clone(), plan.name.clone()],
        image: None,
        metadata: StorageMetadata {
            pod_name: plan.name.clone(),
            pod_id: plan.id.to_string(),
            image_name: pause_image.to_owned(),
            image_id: String::new(),
            container_name: infra,
            metadata_name: plan.metadata.name.clone(),
            uid: plan.metadata.uid.clone(),
            namespace: plan.metadata.namespace.clone(),
            mount_label: String::new(),
            created_at: created / 1_000_000_000,
            attempt: plan.metadata.attempt,
            pod: true,
            privileged: plan.privileged,
        },
    }
}

fn pause_state(
    plan: &Plan,
    dirs: &RecordDirs,
    process: &ContainerProcess,
    info: &SandboxAnnotations,
    created: i64,
) -> ContainerState {
    ContainerState {
        oci_version: OCI_STATE_VERSION.to_owned(),
        id: plan.id.to_string(),
        status: ContainerStatus::Running,
        pid: process.init.pid,
        bundle: dirs.run.to_string_lossy().into_owned(),
        annotations: info.to_map(),
        created: go_time::from_unix_nanoseconds(created),
        started: go_time::from_unix_nanoseconds(now_nanoseconds()),
        init_pid: process.init.pid,
        init_start_time: process.init.start_time.clone(),
        container_monitor_process: Some(MonitorProcess {
            pid: process.monitor.pid,
            start_time: process.monitor.start_time.clone(),
        }),
        ..ContainerState::default()
    }
}
