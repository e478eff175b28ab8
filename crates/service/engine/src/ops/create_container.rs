//! CreateContainer.
//!
//! As with pods, the store's record comes first and state.json last: only a container that has it exists after a
//! restart.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use crioxide_cri_api::v1;
use crioxide_names::ContainerId;
use crioxide_node_records::{
    ContainerAnnotations, ContainerState, StorageMetadata,
    annotations::values::Volume,
    container_state::{ContainerStatus, MonitorProcess, OCI_STATE_VERSION},
    go_time, record_names,
};
use crioxide_runtime_spec::{
    ContainerSpecRequest, SpecOutput, container_spec, labels, log_path,
    mounts::volumes::VolumeSource, resources, stop_signal,
};
use oci_spec::runtime::{Mount, Spec};
use tokio::sync::{Mutex, watch};

use crate::{
    Engine, EngineError,
    container::Container,
    engine::lookup_error,
    error::Context as _,
    index::LookupError,
    ops::{accounts, exits::now_nanoseconds, run_pod},
    pod::Pod,
    ports::{
        ConfinementRequest, ContainerProcess, CreateProcess, DevicesRequest, MissingSource,
        NewRecord, RecordDirs, ResolvedImage,
    },
    settings::ImageVolumes,
    undo::Undo,
};

/// Everything that is decided before the host is touched.
struct Plan {
    id: ContainerId,
    name: String,
    pod: Arc<Pod>,
    config: v1::ContainerConfig,
    sandbox: v1::PodSandboxConfig,
    metadata: v1::ContainerMetadata,
    image: ResolvedImage,
    /// The image as the request names it.
    image_text: String,
    log_path: PathBuf,
    privileged: bool,
}

impl Engine {
    /// Makes a container, or joins the making of the one with the same pod, name and attempt.
    ///
    /// # Errors
    /// A request that makes no sense, or the first step that failed; everything taken so far is given back.
    pub async fn create_container(
        &self,
        request: v1::CreateContainerRequest,
    ) -> Result<ContainerId, EngineError> {
        let config = request
            .config
            .ok_or_else(|| EngineError::refused("config is nil"))?;
        if config.image.is_none() {
            return Err(EngineError::refused("config.Image is nil"));
        }
        let sandbox = request
            .sandbox_config
            .ok_or_else(|| EngineError::refused("sandbox config is nil"))?;
        let pod_metadata = sandbox
            .metadata
            .clone()
            .ok_or_else(|| EngineError::refused("sandbox config metadata is nil"))?;
        let metadata = config
            .metadata
            .clone()
            .filter(|metadata| !metadata.name.is_empty());
        let metadata =
            metadata.ok_or_else(|| EngineError::refused("metadata.Name should not be empty"))?;
        if metadata.name.contains(['/', '\0', '\n']) {
            return Err(EngineError::refused(format!(
                "metadata.Name {:?} has forbidden characters",
                metadata.name
            )));
        }
        let pod = self.pod_for(&request.pod_sandbox_id)?;
        let name = record_names::container_name(
            &metadata.name,
            metadata.attempt,
            run_pod::identity(&pod_metadata),
        );
        let existing = || {
            let id = self.inner.containers.id_of(&name)?;
            ContainerId::parse(&id).ok()
        };
        let (engine, make_name) = (self.clone(), name.clone());
        let make = move || async move {
            let plan = engine
                .plan_container(config, sandbox, metadata, pod, make_name)
                .await?;
            engine.make_container(plan).await
        };
        self.inner
            .container_creations
            .join(&name, existing, make)
            .await
    }

    fn pod_for(&self, id: &str) -> Result<Arc<Pod>, EngineError> {
        let pod = self.inner.pods.find(id).map_err(|error| match error {
            LookupError::Empty => EngineError::refused("PodSandboxId should not be empty"),
            LookupError::NotFound { .. } => {
                EngineError::refused(format!("specified sandbox not found: {id}"))
            }
            LookupError::Ambiguous { .. } => lookup_error("pod", id, &error),
        })?;
        if pod.is_stopped() {
            return Err(EngineError::refused(format!(
                "CreateContainer failed as the sandbox was stopped: {}",
                pod.id
            )));
        }
        Ok(pod)
    }

    async fn plan_container(
        &self,
        config: v1::ContainerConfig,
        sandbox: v1::PodSandboxConfig,
        metadata: v1::ContainerMetadata,
        pod: Arc<Pod>,
        name: String,
    ) -> Result<Plan, EngineError> {
        labels::check_sizes(&config.labels)
            .map_err(|error| EngineError::failed(format!("container {name}"), &error))?;
        let image_text = config
            .image
            .as_ref()
            .map(|image| image.image.clone())
            .unwrap_or_default();
        if image_text.is_empty() {
            return Err(EngineError::refused(
                "CreateContainerRequest.ContainerConfig.Image.Image is empty",
            ));
        }
        let image = self.inner.ports.images.resolve(&image_text).await;
        let image = image.doing(|| format!("failed to find image {image_text}"))?;
        let image = image.ok_or_else(|| {
            EngineError::refused(format!(
                "image {image_text} not found: pull it before creating container {name}"
            ))
        })?;
        let id = ContainerId::generate();
        let pod_logs = std::path::Path::new(&pod.info.log_path)
            .parent()
            .unwrap_or(std::path::Path::new("/"));
        let log_path =
            log_path::log_path(&pod_logs.to_string_lossy(), &config.log_path, id.as_str())
                .map_err(|error| EngineError::failed(format!("container {name}"), &error))?;
        let security = config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref());
        let privileged = security.is_some_and(|security| security.privileged);
        // The user's own words survive where the kubelet resolved the image to an id.
        let user_text = config
            .image
            .as_ref()
            .map(|image| image.user_specified_image.clone())
            .unwrap_or_default();
        let image_text = if user_text.is_empty() {
            image_text
        } else {
            user_text
        };
        Ok(Plan {
            id,
            name,
            pod,
            config,
            sandbox,
            metadata,
            image,
            image_text,
            log_path,
            privileged,
        })
    }

    async fn make_container(&self, plan: Plan) -> Result<ContainerId, EngineError> {
        let mut undo = Undo::default();
        let built = self.build_container(&plan, &mut undo).await;
        let (container, pod) = match built {
            Ok(container) => (container, &plan.pod),
            Err(error) => {
                undo.run().await;
                return Err(error);
            }
        };
        // A stop that began meanwhile has looked at the pod's containers already or will find this one: under the
        // gate one of the two is certain.
        let gate = pod.gate.lock().await;
        if pod.is_stopped() {
            drop(gate);
            undo.run().await;
            return Err(EngineError::refused(format!(
                "CreateContainer failed as the sandbox was stopped: {}",
                pod.id
            )));
        }
        let id = container.id.clone();
        pod.add_container(id.clone());
        self.inner
            .containers
            .insert(id.as_str(), &plan.name, Arc::new(container));
        drop(gate);
        tracing::info!("Created container {id}: {}", plan.name);
        Ok(id)
    }

    async fn build_container(
        &self,
        plan: &Plan,
        undo: &mut Undo,
    ) -> Result<Container, EngineError> {
        let ports = &self.inner.ports;
        let created = now_nanoseconds();
        let dirs = ports.records.create(new_record(plan, created)).await;
        let dirs = dirs.doing(|| format!("failed to create container {}", plan.name))?;
        let (records, id) = (ports.records.clone(), plan.id.clone());
        undo.push("the container's record", move || async move {
            records.remove(&id).await
        });
        let rootfs = ports.records.mount(&plan.id).await;
        let rootfs =
            rootfs.doing(|| format!("failed to mount the root of container {}", plan.name))?;
        let (records, id) = (ports.records.clone(), plan.id.clone());
        undo.push("the container's root mount", move || async move {
            records.unmount(&id).await
        });

        let output = self.container_spec(plan, &dirs, &rootfs).await?;
        let info = annotations(plan, &rootfs, output.volumes, created);
        let mut spec = output.spec;
        spec.set_annotations(Some(info.to_map().into_iter().collect()));
        let json = serde_json::to_vec_pretty(&spec)
            .map_err(|error| EngineError::failed("write config.json", &error))?;
        let saved = ports.records.save_config(&dirs, json).await;
        saved.doing(|| format!("failed to record container {}", plan.name))?;

        let handler = plan.pod.info.runtime_handler.clone();
        let process = ports
            .backend
            .create(&create_process(plan, &dirs, &handler, &spec))
            .await;
        let process = process.doing(|| "container create failed".to_owned())?;
        let (backend, pod, id) = (ports.backend.clone(), plan.pod.id.clone(), plan.id.clone());
        let (owned_dirs, owned_handler) = (dirs.clone(), handler.clone());
        undo.push("the container's process", move || async move {
            backend.delete(&pod, &owned_handler, &id, &owned_dirs).await
        });
        let state = created_state(plan, &dirs, &process, &info, created);
        let json = state
            .to_json()
            .map_err(|error| EngineError::failed("write state.json", &error))?;
        let saved = ports.records.save_state(&dirs, json).await;
        saved.doing(|| format!("failed to record container {}", plan.name))?;
        Ok(Container {
            id: plan.id.clone(),
            pod: plan.pod.id.clone(),
            info,
            dirs,
            handler,
            resources: std::sync::RwLock::new(cri_resources(&spec)),
            spec: Arc::new(spec),
            privileged: plan.privileged,
            state: watch::Sender::new(Arc::new(state)),
            gate: Mutex::default(),
            stop: std::sync::Mutex::default(),
            saving: Mutex::default(),
        })
    }

    async fn container_spec(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
        rootfs: &std::path::Path,
    ) -> Result<SpecOutput, EngineError> {
        let (ports, settings) = (&self.inner.ports, &self.inner.settings);
        let security = plan
            .config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.clone());
        let (user, mut extra_mounts) =
            accounts::resolve_user(ports, plan.request_user(), dirs, rootfs)
                .await
                .map_err(|error| {
                    EngineError::refused(format!("container {}: {}", plan.name, error.message()))
                })?;
        if let Some(hosts) = self.hosts_file(plan, dirs).await? {
            extra_mounts.push(hosts);
        }
        self.prepare_root(plan, rootfs).await?;
        let volumes = self.volume_sources(plan).await?;
        let security = security.unwrap_or_default();
        let mut defaults = settings.defaults.clone();
        if let Some(handler) = settings.handlers.get(&plan.pod.info.runtime_handler) {
            defaults.minimum_memory = handler.minimum_memory;
        }
        let add = security.capabilities.as_ref();
        let capabilities = crioxide_runtime_spec::capabilities::select(
            add,
            &defaults.capabilities,
            &settings.host.bounding,
        )
        .map_err(|error| EngineError::failed(format!("container {}", plan.name), &error))?;
        let confinement = ports.host.confinement(ConfinementRequest {
            handler: plan.pod.info.runtime_handler.clone(),
            privileged: plan.privileged,
            seccomp: security.seccomp.clone(),
            apparmor: security.apparmor.clone(),
            capabilities: capabilities.into_iter().collect(),
        });
        let confinement = confinement
            .await
            .doing(|| format!("security profiles of container {}", plan.name))?;
        let devices = ports.host.devices(DevicesRequest {
            handler: plan.pod.info.runtime_handler.clone(),
            privileged: plan.privileged,
            requested: plan.config.devices.clone(),
        });
        let devices = devices
            .await
            .doing(|| format!("devices of container {}", plan.name))?;
        let namespaces = plan.namespaces(self)?;
        container_spec(&ContainerSpecRequest {
            id: plan.id.as_str(),
            config: &plan.config,
            sandbox: &plan.sandbox_with_privilege(),
            image: &plan.image.config,
            user: &user,
            rootfs,
            hostname: &plan.pod.info.hostname,
            cgroup_parent: &plan.pod.info.cgroup_parent,
            namespaces: &namespaces,
            files: &plan.pod_files(),
            volumes: &volumes,
            extra_mounts: &extra_mounts,
            devices: &devices,
            confinement: &confinement,
            umask: None,
            console_size: None,
            host: &settings.host,
            defaults: &defaults,
        })
        .map_err(|error| EngineError::refused(crate::chain(&error)))
    }

    /// Directories that the container expects: its working directory and the volumes its image declares.
    async fn prepare_root(&self, plan: &Plan, rootfs: &std::path::Path) -> Result<(), EngineError> {
        let image = &plan.image.config;
        let mut directories = Vec::new();
        let cwd = if plan.config.working_dir.is_empty() {
            &image.working_dir
        } else {
            &plan.config.working_dir
        };
        if !cwd.is_empty() && cwd != "/" {
            directories.push(cwd.clone());
        }
        if self.inner.settings.image_volumes == ImageVolumes::Mkdir {
            directories.extend(image.volumes.iter().cloned());
        }
        if directories.is_empty() {
            return Ok(());
        }
        let made = self
            .inner
            .ports
            .host
            .create_in_root(rootfs, directories)
            .await;
        made.doing(|| format!("failed to prepare the root of container {}", plan.name))
    }

    async fn volume_sources(
        &self,
        plan: &Plan,
    ) -> Result<BTreeMap<String, VolumeSource>, EngineError> {
        let mut sources = BTreeMap::new();
        for mount in &plan.config.mounts {
            if mount
                .image
                .as_ref()
                .is_some_and(|image| !image.image.is_empty())
            {
                return Err(EngineError::refused(
                    "ImageVolumeMountFailed: image volumes are not supported yet",
                ));
            }
            if mount.host_path.is_empty() {
                continue; // the spec's own check names it
            }
            let rejected = self
                .inner
                .settings
                .rejected_mount_sources
                .iter()
                .any(|path| path.as_os_str() == mount.host_path.as_str());
            let missing = if rejected {
                MissingSource::Reject
            } else {
                MissingSource::Create
            };
            let source = self
                .inner
                .ports
                .host
                .mount_source(&mount.host_path, missing)
                .await;
            let source = source.doing(|| {
                format!(
                    "failed to mount {} in container {}",
                    mount.host_path, plan.name
                )
            })?;
            sources.insert(mount.container_path.clone(), source);
        }
        Ok(sources)
    }

    /// A hosts file for a container that is given none: without it a pod cannot even find itself.
    async fn hosts_file(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
    ) -> Result<Option<Mount>, EngineError> {
        let given = plan
            .config
            .mounts
            .iter()
            .any(|mount| mount.container_path.trim_end_matches('/') == "/etc/hosts");
        if given || plan.pod.info.host_network {
            return Ok(None);
        }
        let content =
            crioxide_runtime_spec::files::hosts(&plan.pod.info.hostname, &plan.pod.info.ips);
        let path = self
            .inner
            .ports
            .records
            .write_run_file(dirs, "hosts", content.into_bytes())
            .await;
        let path =
            path.doing(|| format!("failed to write the hosts file of container {}", plan.name))?;
        Ok(Some(accounts::bind("/etc/hosts", &path)))
    }
}

fn new_record(plan: &Plan, created: i64) -> NewRecord {
    NewRecord {
        id: plan.id.clone(),
        names: vec![plan.name.clone()],
        image: Some(plan.image.id.clone()),
        metadata: StorageMetadata {
            pod_name: plan.pod.info.name.clone(),
            pod_id: plan.pod.id.to_string(),
            image_name: plan.image_text.clone(),
            image_id: plan.image.id.to_string(),
            container_name: plan.name.clone(),
            metadata_name: plan.metadata.name.clone(),
            created_at: created / 1_000_000_000,
            attempt: plan.metadata.attempt,
            privileged: plan.privileged,
            ..StorageMetadata::default()
        },
    }
}

fn create_process(plan: &Plan, dirs: &RecordDirs, handler: &str, spec: &Spec) -> CreateProcess {
    CreateProcess {
        pod: plan.pod.id.clone(),
        id: plan.id.clone(),
        name: plan.name.clone(),
        handler: handler.to_owned(),
        dirs: dirs.clone(),
        cgroups_path: crate::container::cgroups_path(spec),
        log_path: plan.log_path.clone(),
        terminal: plan.config.tty,
        stdin: plan.config.stdin,
        stdin_once: plan.config.stdin_once,
    }
}

fn annotations(
    plan: &Plan,
    rootfs: &std::path::Path,
    volumes: Vec<Volume>,
    created: i64,
) -> ContainerAnnotations {
    let info = &plan.pod.info;
    let requested = plan.config.stop_signal();
    let signal = stop_signal::choose(requested, &plan.image.config.stop_signal);
    let given =
        requested != v1::Signal::RuntimeDefault || !plan.image.config.stop_signal.is_empty();
    let security = plan
        .config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref());
    let profile = security.and_then(|security| security.seccomp.as_ref());
    ContainerAnnotations {
        id: plan.id.to_string(),
        name: plan.name.clone(),
        sandbox_id: plan.pod.id.to_string(),
        sandbox_name: info.name.clone(),
        log_path: plan.log_path.to_string_lossy().into_owned(),
        created: go_time::from_unix_nanoseconds(created),
        metadata: (&plan.metadata).into(),
        labels: plan.config.labels.clone().into_iter().collect(),
        annotations: plan.config.annotations.clone().into_iter().collect(),
        inherited: info.annotations.clone(),
        resolv_path: info.resolv_path.clone(),
        mount_point: rootfs.to_string_lossy().into_owned(),
        seccomp_profile: profile.map(seccomp_text).unwrap_or_default(),
        image: plan.image_text.clone(),
        image_name: plan.image.name.clone(),
        image_ref: plan.image.id.to_string(),
        image_repo_digests: plan.image.repo_digests.clone(),
        ips: info.ips.clone(),
        tty: plan.config.tty,
        stdin: plan.config.stdin,
        stdin_once: plan.config.stdin_once,
        volumes,
        platform_runtime_path: String::new(),
        stop_signal: given.then(|| signal.to_string()),
    }
}

fn seccomp_text(profile: &v1::SecurityProfile) -> String {
    match profile.profile_type() {
        v1::security_profile::ProfileType::RuntimeDefault => "RuntimeDefault".to_owned(),
        v1::security_profile::ProfileType::Unconfined => "Unconfined".to_owned(),
        v1::security_profile::ProfileType::Localhost => profile.localhost_ref.clone(),
    }
}

fn created_state(
    plan: &Plan,
    dirs: &RecordDirs,
    process: &ContainerProcess,
    info: &ContainerAnnotations,
    created: i64,
) -> ContainerState {
    ContainerState {
        oci_version: OCI_STATE_VERSION.to_owned(),
        id: plan.id.to_string(),
        status: ContainerStatus::Created,
        pid: process.init.pid,
        bundle: dirs.run.to_string_lossy().into_owned(),
        annotations: info.to_map(),
        created: go_time::from_unix_nanoseconds(created),
        init_pid: process.init.pid,
        init_start_time: process.init.start_time.clone(),
        container_monitor_process: Some(MonitorProcess {
            pid: process.monitor.pid,
            start_time: process.monitor.start_time.clone(),
        }),
        ..ContainerState::default()
    }
}

/// The limits that a spec comes to, as CRI states them.
pub(crate) fn cri_resources(spec: &Spec) -> v1::LinuxContainerResources {
    let oom_score_adj = spec
        .process()
        .as_ref()
        .and_then(oci_spec::runtime::Process::oom_score_adj);
    let limits = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    limits
        .map(|limits| resources::to_cri(limits, oom_score_adj))
        .unwrap_or_default()
}

mod request;
