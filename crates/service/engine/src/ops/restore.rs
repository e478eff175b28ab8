//! Restore at start: the pods and containers of the store, with what became of them meanwhile.
//!
//! A record is trusted when its config.json and state.json are there: they are written last, so a record without
//! them belongs to a creation that a crash cut off, and everything it may have taken is given back.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crioxide_names::{ContainerId, PodId};
use crioxide_node_records::{ContainerAnnotations, ContainerState, SandboxAnnotations};
use futures_util::{StreamExt as _, stream};
use tokio::sync::{Mutex, watch};

use crate::{
    Engine, EngineError,
    container::Container,
    error::Context as _,
    pod::{Pause, Pod, PodParts},
    ports::{
        Adoption, Labels, MonitorReport, NamespacePaths, PodHome, PodNetwork, ProcessId,
        SandboxPaths, StoredRecord,
    },
};

/// Pods looked at side by side.
const PARALLEL: usize = 16;

/// What a restore found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Pods.
    pub pods: usize,
    /// Containers.
    pub containers: usize,
    /// Records that were cut off half-way, removed.
    pub removed: usize,
}

impl Engine {
    /// Reads the store's records and makes them the engine's pods and containers.
    ///
    /// # Errors
    /// When the store cannot be read. A record that cannot be is removed, with a warning.
    pub async fn restore(&self) -> Result<Restored, EngineError> {
        let records = self
            .inner
            .ports
            .records
            .load()
            .await
            .doing(|| "read the records of the store".to_owned())?;
        let (pods, containers): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.metadata.pod);
        let mut of_pod: HashMap<String, Vec<StoredRecord>> = HashMap::new();
        for record in containers {
            of_pod
                .entry(record.metadata.pod_id.clone())
                .or_default()
                .push(record);
        }
        let work: Vec<_> = pods
            .into_iter()
            .map(|pod| {
                let containers = of_pod.remove(pod.id.as_str()).unwrap_or_default();
                self.restore_pod(pod, containers)
            })
            .collect();
        let mut found = Restored::default();
        let mut results = stream::iter(work).buffer_unordered(PARALLEL);
        while let Some(one) = results.next().await {
            found.pods += one.pods;
            found.containers += one.containers;
            found.removed += one.removed;
        }
        for orphan in of_pod.into_values().flatten() {
            tracing::warn!(
                "Removing container {}: its pod {} does not exist",
                orphan.id,
                orphan.metadata.pod_id
            );
            self.discard(&orphan, None).await;
            found.removed += 1;
        }
        let known: Vec<String> = self
            .inner
            .pods
            .all()
            .iter()
            .map(|pod| pod.id.to_string())
            .collect();
        if let Err(error) = self.inner.ports.network.sweep(&known).await {
            tracing::warn!(
                "Failed to give back networks of unknown pods: {}",
                crate::chain(error.as_ref())
            );
        }
        Ok(found)
    }

    /// Removes every pod and container of the store, as after a reboot, when none of their processes can be alive.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn wipe(&self) -> Result<usize, EngineError> {
        let records = self
            .inner
            .ports
            .records
            .load()
            .await
            .doing(|| "read the records of the store".to_owned())?;
        let count = records.len();
        let (pods, containers): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.metadata.pod);
        let handlers: HashMap<_, _> = pods
            .iter()
            .map(|pod| (pod.id.as_str(), recorded_handler(pod)))
            .collect();
        for container in &containers {
            let handler = handlers
                .get(container.metadata.pod_id.as_str())
                .and_then(Option::as_deref);
            self.discard(container, handler).await;
        }
        for pod in &pods {
            self.discard_pod(pod).await;
        }
        Ok(count)
    }

    async fn restore_pod(&self, record: StoredRecord, containers: Vec<StoredRecord>) -> Restored {
        let mut found = Restored::default();
        let pod = match self.load_pod(&record).await {
            Ok(pod) => Arc::new(pod),
            Err(reason) => {
                tracing::warn!("Removing pod {}: {reason}", record.id);
                let handler = recorded_handler(&record);
                if let Ok(id) = PodId::parse(record.id.as_str()) {
                    let home = self.home_of(&record, handler.as_deref());
                    let _ = self.inner.ports.backend.adopt_monitor(&id, &home).await;
                }
                for container in &containers {
                    self.discard(container, handler.as_deref()).await;
                }
                self.discard_pod(&record).await;
                found.removed = 1 + containers.len();
                return found;
            }
        };
        self.inner
            .pods
            .insert(pod.id.as_str(), &pod.info.name, pod.clone());
        found.pods = 1;
        for record in &containers {
            match self.load_container(record, &pod).await {
                Ok(container) => {
                    pod.add_container(container.id.clone());
                    let container = Arc::new(container);
                    self.inner.containers.insert(
                        container.id.as_str(),
                        &container.info.name,
                        container.clone(),
                    );
                    found.containers += 1;
                }
                Err(reason) => {
                    tracing::warn!("Removing container {}: {reason}", record.id);
                    self.discard(record, Some(&pod.info.runtime_handler)).await;
                    found.removed += 1;
                }
            }
        }
        found
    }

    async fn load_pod(&self, record: &StoredRecord) -> Result<Pod, String> {
        let id = PodId::parse(record.id.as_str()).map_err(|error| error.to_string())?;
        let (spec, text) = parse_spec(record)?;
        let annotations = spec
            .annotations()
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let mut info =
            SandboxAnnotations::from_map(&annotations).map_err(|error| crate::chain(&error))?;
        if info.runtime_handler.is_empty() {
            // As CRI-O records a pod that named none.
            info.runtime_handler
                .clone_from(&self.inner.settings.default_handler);
        }
        if info.ips.is_empty() && !record.network_stopped {
            info.ips = addresses(info.cni_result.as_deref().unwrap_or_default());
        }
        let state = match (record.state.as_deref(), info.spoofed) {
            (Some(state), _) => {
                ContainerState::parse(state).map_err(|error| crate::chain(&error))?
            }
            (None, true) => ContainerState::default(),
            (None, false) => {
                return Err("its creation was cut off: it has no state.json".to_owned());
            }
        };
        let namespaces = namespace_paths(&spec, &info);
        warn(
            &record.id,
            self.inner
                .ports
                .host
                .prepare_cgroup(&record.dirs, &info.cgroup_parent)
                .await,
        );
        let mut stopped = record.stopped;
        let backend = &self.inner.ports.backend;
        let home = PodHome {
            dirs: record.dirs.clone(),
            cgroup_parent: info.cgroup_parent.clone(),
            handler: info.runtime_handler.clone(),
        };
        match backend.adopt_monitor(&id, &home).await {
            Ok(Adoption::Connected) if stopped => self.end_monitor(&id).await,
            Ok(Adoption::Connected | Adoption::None) => {}
            Ok(Adoption::Gone) if stopped => {}
            Ok(Adoption::Gone) => {
                tracing::warn!("The monitor of pod {id} is gone; its containers run unwatched");
            }
            Err(error) => tracing::warn!(
                "Failed to reach the monitor of pod {id}: {}",
                crate::chain(error.as_ref())
            ),
        }
        let pause = if info.spoofed {
            None
        } else {
            let process = ProcessId {
                pid: state.init_pid,
                start_time: state.init_start_time.clone(),
            };
            let report = backend
                .inspect(&id, &record.id, &record.dirs, &process)
                .await;
            let ended = stopped || !matches!(report, Ok(MonitorReport::Alive { .. }));
            stopped |= ended;
            Some(Pause {
                process,
                ended: watch::Sender::new(ended),
            })
        };
        let paths = SandboxPaths {
            resolv_conf: info.resolv_path.clone().into(),
            hostname: info.hostname_path.clone().into(),
            containerenv: record.dirs.run.join(".containerenv"),
            shm: info.shm_path.clone().into(),
        };
        let labels = recorded_labels(&spec);
        self.inner.ports.host.keep_label(&labels.mount);
        Ok(Pod::new(PodParts {
            id,
            info,
            dirs: record.dirs.clone(),
            namespaces,
            paths,
            labels,
            pause,
            spec: text.into(),
            stopped,
            torn_down: record.stopped,
            network_stopped: record.network_stopped,
        }))
    }

    async fn load_container(&self, record: &StoredRecord, pod: &Pod) -> Result<Container, String> {
        let (spec, _) = parse_spec(record)?;
        let annotations = spec
            .annotations()
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        let info =
            ContainerAnnotations::from_map(&annotations).map_err(|error| crate::chain(&error))?;
        let state = record
            .state
            .as_deref()
            .ok_or("its creation was cut off: it has no state.json")?;
        let state = ContainerState::parse(state).map_err(|error| crate::chain(&error))?;
        let oom_score_adj = spec
            .process()
            .as_ref()
            .and_then(oci_spec::runtime::Process::oom_score_adj);
        let resources = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.resources().as_ref());
        let resources = resources
            .map(|r| crioxide_runtime_spec::resources::to_cri(r, oom_score_adj))
            .unwrap_or_default();
        let settings = &self.inner.settings;
        let program = info.platform_runtime_path.clone();
        let container = Container {
            id: record.id.clone(),
            pod: pod.id.clone(),
            info,
            dirs: record.dirs.clone(),
            handler: settings.runtime_of(&pod.info.runtime_handler, &program),
            spec: Arc::new(spec),
            privileged: record.metadata.privileged,
            resources: std::sync::RwLock::new(resources),
            state: watch::Sender::new(Arc::new(state)),
            gate: Mutex::default(),
            stop: std::sync::Mutex::default(),
            saving: Mutex::default(),
            announced: std::sync::Mutex::default(),
            entry: crate::view::ContainerEntry::default(),
            held_calls: std::sync::Mutex::default(),
        };
        if record.checkpointing {
            self.end_interrupted_checkpoint(&container).await;
        }
        let unrestored = self
            .end_interrupted_restore(&container, record.restoring)
            .await;
        if container.is_alive() && !unrestored {
            self.recheck(&container).await;
        }
        self.hear_again(&container, pod).await;
        Ok(container)
    }

    /// Gives back what a container that cannot be restored may hold. Its pod's monitor must have been adopted: a
    /// creation that was cut off may still go on there, and the delete waits for it.
    async fn discard(&self, record: &StoredRecord, handler: Option<&str>) {
        let ports = &self.inner.ports;
        let handler = self.known_handler(handler);
        let runtime = self
            .inner
            .settings
            .runtime_of(handler, &recorded_program(record));
        if let Ok(pod) = PodId::parse(&record.metadata.pod_id) {
            let deleted = ports
                .backend
                .delete(&pod, &runtime, &record.id, &record.dirs)
                .await;
            warn(&record.id, deleted);
        }
        warn(&record.id, ports.records.unmount(&record.id).await);
        warn(&record.id, ports.records.unmount_images(&record.dirs).await);
        warn(&record.id, ports.records.remove(&record.id).await);
    }

    /// A pod that is to be removed: where its cgroups were is not known.
    fn home_of(&self, record: &StoredRecord, handler: Option<&str>) -> PodHome {
        PodHome {
            dirs: record.dirs.clone(),
            cgroup_parent: String::new(),
            handler: self.known_handler(handler).to_owned(),
        }
    }

    fn known_handler<'a>(&'a self, recorded: Option<&'a str>) -> &'a str {
        let settings = &self.inner.settings;
        recorded
            .filter(|name| settings.handlers.contains_key(*name))
            .unwrap_or(&settings.default_handler)
    }

    /// Gives back what a pod that cannot be restored may hold. Everything is named after its id.
    async fn discard_pod(&self, record: &StoredRecord) {
        let Ok(id) = PodId::parse(record.id.as_str()) else {
            return;
        };
        let ports = &self.inner.ports;
        let network = PodNetwork {
            id: id.to_string(),
            name: record.metadata.metadata_name.clone(),
            namespace: record.metadata.namespace.clone(),
            uid: record.metadata.uid.clone(),
            netns: None,
            port_mappings: Vec::new(),
            annotations: Vec::new(),
            cgroup_parent: String::new(),
        };
        let recorded = recorded_handler(record);
        let home = self.home_of(record, recorded.as_deref());
        let _ = ports.backend.adopt_monitor(&id, &home).await;
        if record.config.is_some() {
            // Only then its infra container may have been made.
            let handler = self.known_handler(recorded.as_deref());
            let deleted = ports
                .backend
                .delete(&id, handler, &record.id, &record.dirs)
                .await;
            warn(&record.id, deleted);
        }
        warn(&record.id, ports.network.remove(&network).await);
        warn(&record.id, ports.backend.forget_pod(&id).await);
        warn(
            &record.id,
            ports
                .host
                .remove_namespaces(&id, &NamespacePaths::default())
                .await,
        );
        warn(&record.id, ports.host.remove_files(&record.dirs).await);
        warn(
            &record.id,
            ports.host.release_cgroup(&record.dirs, "").await,
        );
        warn(&record.id, ports.records.remove(&record.id).await);
    }
}

fn warn(id: &ContainerId, result: crate::ports::PortResult<()>) {
    if let Err(error) = result {
        tracing::warn!(
            "While looking after what is left of {id}: {}",
            crate::chain(error.as_ref())
        );
    }
}

fn parse_spec(record: &StoredRecord) -> Result<(oci_spec::runtime::Spec, String), String> {
    let bytes = record
        .config
        .as_deref()
        .ok_or("its creation was cut off: it has no config.json")?;
    let spec = serde_json::from_slice(bytes)
        .map_err(|error| format!("its config.json is broken: {error}"))?;
    Ok((spec, String::from_utf8_lossy(bytes).into_owned()))
}

/// The runtime handler of a pod's record, as far as the creation came to that.
fn recorded_handler(record: &StoredRecord) -> Option<String> {
    let handler = SandboxAnnotations::from_map(&recorded_annotations(record)?)
        .ok()?
        .runtime_handler;
    Some(handler).filter(|name| !name.is_empty())
}

/// The program of a container's record that runs it because of its platform, as far as the creation came to that.
fn recorded_program(record: &StoredRecord) -> String {
    recorded_annotations(record)
        .and_then(|annotations| ContainerAnnotations::from_map(&annotations).ok())
        .map(|info| info.platform_runtime_path)
        .unwrap_or_default()
}

fn recorded_annotations(record: &StoredRecord) -> Option<BTreeMap<String, String>> {
    let (spec, _) = parse_spec(record).ok()?;
    let annotations = spec.annotations().iter().flatten();
    Some(annotations.map(|(k, v)| (k.clone(), v.clone())).collect())
}

/// The addresses in a recorded CNI result. CRI-O writes a pod's config.json before it puts the addresses themselves in.
fn addresses(cni_result: &str) -> Vec<String> {
    let result: serde_json::Value = serde_json::from_str(cni_result).unwrap_or_default();
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip["address"].as_str()?.split('/').next())
        .map(str::to_owned)
        .collect()
}

/// The SELinux labels that the record's spec names.
fn recorded_labels(spec: &oci_spec::runtime::Spec) -> Labels {
    Labels {
        process: spec
            .process()
            .as_ref()
            .and_then(|process| process.selinux_label().clone())
            .unwrap_or_default(),
        mount: spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.mount_label().clone())
            .unwrap_or_default(),
    }
}

/// The pins that the record's spec names.
fn namespace_paths(spec: &oci_spec::runtime::Spec, info: &SandboxAnnotations) -> NamespacePaths {
    use oci_spec::runtime::LinuxNamespaceType as Kind;
    let list = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().clone())
        .unwrap_or_default();
    let path = |kind: Kind| {
        list.iter()
            .find(|ns| ns.typ() == kind)
            .and_then(|ns| ns.path().clone())
    };
    NamespacePaths {
        net: path(Kind::Network),
        ipc: path(Kind::Ipc),
        uts: path(Kind::Uts),
        user: path(Kind::User),
        pid: if info.spoofed { None } else { path(Kind::Pid) },
    }
}

#[cfg(test)]
mod tests {
    use super::addresses;

    #[test]
    fn addresses_of_a_recorded_result() {
        let recorded = r#"{"cniVersion":"1.1.0","interfaces":[{"mac":"b2:c4:0d:0c:78:fe","name":"cni-rec"}],"ips":[{"address":"10.87.0.2/16","gateway":"10.87.0.1","interface":2},{"address":"fd00::2/64"}],"routes":[{"dst":"0.0.0.0/0"}]}"#;
        assert_eq!(addresses(recorded), ["10.87.0.2", "fd00::2"]);
        assert!(addresses("").is_empty() && addresses("[]").is_empty());
    }
}
