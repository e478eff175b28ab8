//! RunPodSandbox.
//!
//! The record in the store comes first: it is the intent that a crash is cleaned up by, and everything else a pod
//! takes is named after its id. config.json comes last (with a real infra container: state.json), and only a pod that
//! has it exists after a restart. Namespaces and network, files and shared memory, and the monitor are made side by
//! side.

mod plan;
mod record;

use std::{path::PathBuf, sync::Arc};

use crioxide_cri_api::v1;
use crioxide_names::{ContainerId, PodId};
use crioxide_node_records::record_names;
use tokio::sync::watch;

use crate::{
    Engine, EngineError,
    error::Context as _,
    ops::exits::now_nanoseconds,
    ops::undo::Undo,
    pod::{Pause, Pod, PodParts, pod_network},
    ports::{
        ContainerProcess, CreateProcess, Labels, NamespacePaths, NamespaceRequest, NetworkResult,
        Ownership, PodHome, RecordDirs, SandboxFiles, SandboxPaths,
    },
    user_namespace,
};
use plan::{Plan, checked_metadata};
use record::{new_record, pause_state, spoofed_state};

pub(crate) use plan::identity;
pub(crate) use record::apply_labels;

/// Size of a pod's /dev/shm, bytes (CRI-O's default).
const SHM_SIZE: u64 = 64 << 20;
/// What the host gave.
struct Made {
    namespaces: NamespacePaths,
    network: NetworkResult,
    paths: SandboxPaths,
    labels: Labels,
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

    async fn make_pod(&self, plan: Plan) -> Result<PodId, EngineError> {
        let mut undo = Undo::default();
        match self.build_pod(&plan, &mut undo).await {
            Ok(pod) => {
                let id = pod.id.clone();
                let pod = Arc::new(pod);
                self.inner.pods.insert(id.as_str(), &plan.name, pod.clone());
                self.pod_event(&pod, v1::ContainerEventType::ContainerCreatedEvent);
                self.pod_event(&pod, v1::ContainerEventType::ContainerStartedEvent);
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
        let labels = self.pod_labels(plan).await?;
        let (host, label) = (ports.host.clone(), labels.mount.clone());
        undo.push("the pod's label", move || async move {
            host.release_label(&label);
            Ok(())
        });
        let record = new_record(plan, &self.inner.settings.pause_image, created, &labels);
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

        let mut made = self.make_parts(plan, &dirs, labels, undo).await?;
        let info = self.annotations(plan, &made, created);
        let pause_root = match plan.pause {
            true => Some(self.make_pause_root(plan, &dirs).await?),
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
        if !plan.pause {
            let state = spoofed_state(created)?;
            let saved =
                ports
                    .records
                    .write_run_file(&dirs, "state.json", state, Ownership::default());
            let saved = saved.await.map(drop);
            saved.doing(|| format!("failed to record pod {}", plan.name))?;
        }
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
            labels: made.labels,
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
        labels: Labels,
        undo: &mut Undo,
    ) -> Result<Made, EngineError> {
        // The monitor first: another process makes it, while this thread goes on to what blocks it.
        let (monitor, files, network) = tokio::join!(
            self.make_monitor(plan, dirs),
            self.make_files(plan, dirs, &labels.mount),
            self.make_network(plan)
        );
        let (namespaces, files, monitor) =
            (take(network, undo), take(files, undo), take(monitor, undo));
        let ((namespaces, network), paths) = (namespaces?, files?);
        monitor?;
        Ok(Made {
            namespaces,
            network,
            paths,
            labels,
        })
    }

    async fn make_pause_root(
        &self,
        plan: &Plan,
        dirs: &RecordDirs,
    ) -> Result<PathBuf, EngineError> {
        let (ports, handlers) = (&self.inner.ports, &self.inner.settings.handlers);
        let failed = || format!("pod {}", plan.name);
        let owner = user_namespace::root_of(plan.user.as_ref());
        let root = ports.host.create_pause_root(dirs, owner).await;
        let root = root.doing(failed)?;
        let foreign = handlers.get(&plan.handler).is_some_and(|h| h.foreign);
        if foreign && plan.user.is_some() {
            ports.records.open_the_way(&root).await.doing(failed)?;
        }
        Ok(root)
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
            user: plan.user.clone(),
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

    async fn make_files(&self, plan: &Plan, dirs: &RecordDirs, label: &str) -> Part<SandboxPaths> {
        let files = SandboxFiles {
            resolv_conf: plan.resolv_conf.clone(),
            hostname: plan.hostname.clone(),
            shm_size: (plan.options.ipc() != v1::NamespaceMode::Node).then_some(SHM_SIZE),
            ownership: Ownership {
                owner: user_namespace::root_of(plan.user.as_ref()),
                label: label.to_owned(),
            },
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

    async fn make_monitor(&self, plan: &Plan, dirs: &RecordDirs) -> Part<()> {
        let mut undo = Undo::default();
        let backend = self.inner.ports.backend.clone();
        let home = PodHome {
            dirs: dirs.clone(),
            cgroup_parent: plan.cgroup_parent.clone(),
            handler: plan.handler.clone(),
        };
        let started = backend.start_monitor(&plan.id, &home).await;
        let started = started.doing(|| format!("failed to start the monitor of pod {}", plan.name));
        let id = plan.id.clone();
        undo.push("the pod's monitor", move || async move {
            backend.forget_pod(&id).await
        });
        (started, undo)
    }
}

type Part<T> = (Result<T, EngineError>, Undo);

/// Takes over what a part acquired, whether it succeeded or not.
fn take<T>((result, part): Part<T>, undo: &mut Undo) -> Result<T, EngineError> {
    undo.append(part);
    result
}
