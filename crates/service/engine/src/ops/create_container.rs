//! CreateContainer.
//!
//! As with pods, the store's record comes first and state.json last: only a container that has it exists after a
//! restart.

mod checkpoint;
mod plan;
mod records;
mod request;
mod spec;
mod volumes;

use std::{path::Path, sync::Arc};

use crioxide_cri_api::v1;
use crioxide_names::ContainerId;
use crioxide_node_records::record_names;
use oci_spec::runtime::Spec;
use tokio::sync::{Mutex, watch};

use crate::{
    Engine, EngineError,
    container::Container,
    error::Context as _,
    ops::undo::Undo,
    ops::{exits::now_nanoseconds, run_pod},
    ports::{CheckpointTarget, ContainerProcess, MountedRoot, RecordDirs},
    settings::CONTAINER,
};
use checkpoint::Checkpoint;
use plan::Plan;
use records::{annotations, create_process, created_state, new_record};

pub(crate) use records::{cri_resources, has_process};

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
        let container = Arc::new(container);
        let id = container.id.clone();
        pod.add_container(id.clone());
        self.inner
            .containers
            .insert(id.as_str(), &plan.name, container.clone());
        self.container_event(&container, v1::ContainerEventType::ContainerCreatedEvent);
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
        let labels = self.container_labels(plan).await?;
        let record = new_record(plan, created, &labels);
        let dirs = ports.records.create(record).await;
        let dirs = dirs.doing(|| format!("failed to create container {}", plan.name))?;
        let (records, id) = (ports.records.clone(), plan.id.clone());
        undo.push("the container's record", move || async move {
            records.remove(&id).await
        });
        let user = plan.pod.user();
        let rootfs = ports.records.mount(&plan.id, user, &labels.mount).await;
        let rootfs =
            rootfs.doing(|| format!("failed to mount the root of container {}", plan.name))?;
        // Held until the container has its root.
        let MountedRoot {
            path: rootfs,
            hold: _hold,
        } = rootfs;
        let (records, id) = (ports.records.clone(), plan.id.clone());
        undo.push("the container's root mount", move || async move {
            records.unmount(&id).await
        });

        self.prepare_for_others(plan, &rootfs).await?;
        let (records, owned_dirs) = (ports.records.clone(), dirs.clone());
        undo.push("the container's images", move || async move {
            records.unmount_images(&owned_dirs).await
        });
        let output = self.container_spec(plan, &dirs, &rootfs, &labels).await?;
        let info = annotations(plan, &rootfs, output.volumes, created);
        let mut spec = output.spec;
        let mut annotations = info.to_map();
        let (settings, handler) = (&self.inner.settings, &plan.pod.info.runtime_handler);
        annotations.extend(settings.shim_annotations(handler, &plan.pod.id, CONTAINER));
        spec.set_annotations(Some(annotations.into_iter().collect()));
        self.add_hooks(plan, &info, &mut spec).await?;
        self.hold_forbidden_calls((&plan.id, &plan.pod), &mut spec, undo)
            .await?;
        let json = serde_json::to_vec_pretty(&spec)
            .map_err(|error| EngineError::failed("write config.json", &error))?;
        let saved = ports.records.save_config(&dirs, json).await;
        saved.doing(|| format!("failed to record container {}", plan.name))?;

        let process = match &plan.checkpoint {
            None => Some(self.make_process(plan, &dirs, &spec, undo).await?),
            Some(checkpoint) => {
                self.import(plan, checkpoint, (&dirs, &rootfs), &spec, undo)
                    .await?;
                None
            }
        };
        let state = created_state(plan, &dirs, process.as_ref(), &info, created);
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
            handler: self.runtime_of(plan),
            resources: std::sync::RwLock::new(cri_resources(&spec)),
            spec: Arc::new(spec),
            privileged: plan.privileged,
            state: watch::Sender::new(Arc::new(state)),
            gate: Mutex::default(),
            stop: std::sync::Mutex::default(),
            saving: Mutex::default(),
            announced: std::sync::Mutex::default(),
            entry: crate::view::ContainerEntry::default(),
            held_calls: std::sync::Mutex::default(),
        })
    }

    fn runtime_of(&self, plan: &Plan) -> String {
        let handler = &plan.pod.info.runtime_handler;
        let settings = &self.inner.settings;
        settings.runtime_of(handler, &plan.platform_program)
    }

    async fn make_process(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
        spec: &Spec,
        undo: &mut Undo,
    ) -> Result<ContainerProcess, EngineError> {
        let backend = &self.inner.ports.backend;
        let handler = self.runtime_of(plan);
        let process = backend
            .create(&create_process(plan, dirs, &handler, spec))
            .await;
        let process = process.doing(|| "container create failed".to_owned())?;
        let (backend, pod, id) = (backend.clone(), plan.pod.id.clone(), plan.id.clone());
        let owned_dirs = dirs.clone();
        undo.push("the container's process", move || async move {
            backend.delete(&pod, &handler, &id, &owned_dirs).await
        });
        Ok(process)
    }

    /// Brings in what the container's processes are restored from at its start.
    async fn import(
        &self,
        plan: &Plan,
        checkpoint: &Checkpoint,
        (dirs, rootfs): (&RecordDirs, &Path),
        spec: &Spec,
        undo: &mut Undo,
    ) -> Result<(), EngineError> {
        checkpoint.check_mounts(spec)?;
        let checkpoints = self.inner.ports.checkpoints.clone();
        let target = CheckpointTarget {
            dirs: dirs.clone(),
            root: rootfs.to_owned(),
            spec: Arc::new(spec.clone()),
            log_path: plan.log_path.clone(),
        };
        let imported = checkpoints.import(&checkpoint.source, target).await;
        imported.doing(|| format!("failed to restore from checkpoint {}", checkpoint.name))?;
        let work = checkpoints.imported(dirs).work;
        let owned_dirs = dirs.clone();
        undo.push("the imported checkpoint", move || async move {
            checkpoints.forget(&owned_dirs).await
        });
        // What criu puts into the container's processes writes to the log with their rights.
        let linux = spec.linux().as_ref();
        let label = linux.and_then(|linux| linux.mount_label().as_deref());
        if let Some(label) = label.filter(|label| !label.is_empty()) {
            let labelled = self.inner.ports.host.relabel(&work, label).await;
            labelled.doing(|| format!("failed to restore from checkpoint {}", checkpoint.name))?;
        }
        Ok(())
    }
}
