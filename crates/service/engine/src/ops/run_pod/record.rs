//! The records of a pod: its annotations, config.json, store metadata and the infra container's state.json.

use std::path::Path;

use crioxide_cri_api::v1;
use crioxide_names::ContainerId;
use crioxide_node_records::{
    ContainerState, SandboxAnnotations, StorageMetadata,
    container_state::{ContainerStatus, MonitorProcess, OCI_STATE_VERSION},
    go_time, record_names,
};
use crioxide_runtime_spec::{
    Confinement, SandboxSpecRequest, labels,
    mounts::fixed::PodFiles,
    namespaces::{NamespaceSource, NamespaceSources},
    port_mappings, sandbox_spec,
};

use super::{Made, Plan, identity};
use crate::{
    Engine, EngineError,
    error::Context as _,
    ops::exits::now_nanoseconds,
    ports::{
        ConfinementRequest, ContainerProcess, LabelRequest, Labels, NamespacePaths, NetworkResult,
        NewRecord, RecordDirs, SandboxPaths,
    },
    settings::SANDBOX,
    user_namespace,
};

impl Engine {
    /// As much of the record as networks are told, before there is an address.
    pub(super) fn network_annotations(&self, plan: &Plan) -> SandboxAnnotations {
        let nothing = Made {
            namespaces: NamespacePaths::default(),
            network: NetworkResult::default(),
            paths: SandboxPaths::default(),
            labels: Labels::default(),
        };
        self.annotations(plan, &nothing, 0)
    }

    pub(super) fn annotations(&self, plan: &Plan, made: &Made, created: i64) -> SandboxAnnotations {
        let settings = &self.inner.settings;
        let handler = &settings.handlers[&plan.handler];
        // Filtered by the plan; what the administrator gives by default needs no permission.
        let mut annotations: std::collections::BTreeMap<_, _> =
            plan.config.annotations.clone().into_iter().collect();
        for (key, value) in &handler.default_annotations {
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

    pub(super) async fn pod_labels(&self, plan: &Plan) -> Result<Labels, EngineError> {
        let linux = plan.config.linux.as_ref();
        let security = linux.and_then(|linux| linux.security_context.as_ref());
        let labels = self.inner.ports.host.labels(LabelRequest {
            options: security.and_then(|security| security.selinux_options.clone()),
            namespaces: Some(plan.options.clone()),
            privileged: plan.privileged,
            virtual_machine: self.inner.settings.has_shim(&plan.handler),
            pod: None,
        });
        labels
            .await
            .doing(|| format!("SELinux labels of pod {}", plan.name))
    }

    pub(super) async fn pod_spec(
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
        let mut confinement =
            confinement.doing(|| format!("security profiles of pod {}", plan.name))?;
        apply_labels(&mut confinement, &made.labels);
        let files = PodFiles {
            shm: Some(made.paths.shm.clone()),
            resolv_conf: Some(made.paths.resolv_conf.clone()),
            hostname: Some(made.paths.hostname.clone()),
            ..PodFiles::default()
        };
        let mut annotations = info.to_map();
        annotations.extend(settings.shim_annotations(&plan.handler, &plan.id, SANDBOX));
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
            annotations,
            host: &settings.host,
            defaults: &settings.defaults,
        })
        .map_err(|error| EngineError::failed(format!("pod {}", plan.name), &error))
    }
}

/// Puts SELinux labels among the profiles.
pub(crate) fn apply_labels(confinement: &mut Confinement, labels: &Labels) {
    let given = |label: &String| Some(label.clone()).filter(|label| !label.is_empty());
    confinement.process_label = given(&labels.process);
    confinement.mount_label = given(&labels.mount);
}

/// The namespaces of the pod's own container; a PID namespace of its own is not joined but made.
fn namespace_sources(paths: &NamespacePaths, options: &v1::NamespaceOption) -> NamespaceSources {
    let source = |path: &Option<std::path::PathBuf>| match path {
        Some(path) => NamespaceSource::Path(path.clone()),
        None => NamespaceSource::Host,
    };
    let user = user_namespace::of_record(&options.into(), paths.user.clone());
    let host_network = options.network() == v1::NamespaceMode::Node;
    NamespaceSources {
        pid: match (&paths.pid, options.pid()) {
            (Some(path), _) => NamespaceSource::Path(path.clone()),
            (None, v1::NamespaceMode::Node) => NamespaceSource::Host,
            (None, _) => NamespaceSource::Private,
        },
        network: match &user {
            // From a user namespace the way into the node's network is barred; one is in it already.
            Some(_) if host_network => NamespaceSource::Host,
            _ => source(&paths.net),
        },
        ipc: source(&paths.ipc),
        uts: source(&paths.uts),
        user,
        ..NamespaceSources::default()
    }
}

pub(super) fn new_record(
    plan: &Plan,
    pause_image: &str,
    created: i64,
    labels: &Labels,
) -> NewRecord {
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
            mount_label: labels.mount.clone(),
            created_at: created / 1_000_000_000,
            attempt: plan.metadata.attempt,
            pod: true,
            privileged: plan.privileged,
        },
        user: None,
        labels: labels.clone(),
    }
}

/// The state.json of a pod without infra process, which CRI-O wants in the run directory: it removes a pod that has none.
pub(super) fn spoofed_state(created: i64) -> Result<Vec<u8>, EngineError> {
    let moment = go_time::from_unix_nanoseconds(created);
    let state = ContainerState {
        created: moment,
        started: moment,
        ..ContainerState::default()
    };
    let json = state
        .to_json()
        .map_err(|error| EngineError::failed("write state.json", &error))?;
    // There is no process that could have a status.
    Ok(json
        .replacen(r#""status":"creating""#, r#""status":"""#, 1)
        .into_bytes())
}

pub(super) fn pause_state(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_without_infra_process_has_the_state_that_cri_o_records() {
        let recorded = r#"{"ociVersion":"","id":"","status":"","bundle":"","created":"2026-11-23T14:43:40.628599301Z","started":"2026-11-23T14:43:40.628599301Z","finished":"0001-01-01T00:00:00Z","checkpointedTime":"0001-01-01T00:00:00Z"}"#;
        let created = go_time::parse("2026-11-23T14:43:40.628599301Z").unwrap();
        let state = spoofed_state(go_time::unix_nanoseconds(created)).unwrap();
        assert_eq!(String::from_utf8(state).unwrap(), recorded);
    }
}
